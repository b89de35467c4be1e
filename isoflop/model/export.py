"""Weights into files that others read: a Hugging Face folder, in shards, and the layout that our own runs start from.

Streamed: at any moment one tensor of the source is in memory (measured: 51 MB for a model of 125M parameters whose
largest tensor has 49 MB in bf16; 0.9 seconds of a processor). A folder appears whole or not at all, so it must not be
there yet. What belongs beside the weights (tokenizer, generation config) is given as files, ready to be written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoflop.files import commit, write_folder
from isoflop.model.hub import CONFIG, HEAD, INDEX, SINGLE
from isoflop.model.hub_config import to_config
from isoflop.model.names import HUGGING_FACE, parameters, spans
from isoflop.model.source import Source
from isoflop.model.stream import Entry, shards, write_safetensors
from isoflop.planning.shape import Shape
from isoflop.progress import Report, silent

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "f16": torch.float16}
SHAPE = "shape.json"
WEIGHTS = "model.safetensors"
SCORE = "score.safetensors"
"""The vector that makes a reward model of the model beside it (``posttraining.scoring``)."""
SCORE_NAME = "score.weight"


class Scored(NamedTuple):
    """What makes a reward model of a model: the vector (width,), and the id of padding, which transformers looks past
    to find a text's last token."""

    vector: Tensor
    padding: int | None


def hub_weights(
    shape: Shape, dtype: torch.dtype, shard_bytes: int, score: Scored | None = None
) -> dict[str, list[Entry]]:
    """The tensors of each weights file of a Hugging Face folder, by the file's name; ``score`` replaces the head."""
    if shard_bytes < 1:
        raise ValueError(f"a shard of {shard_bytes} bytes holds nothing; give a positive size")
    entries = [Entry(name, dtype, span.shape) for name, span in spans(shape, HUGGING_FACE).items()]
    if score is not None:
        entries = [*(e for e in entries if e.name != HEAD), Entry(SCORE_NAME, dtype, (1, len(score.vector)))]
    parts = shards(entries, shard_bytes)
    if len(parts) == 1:
        return {SINGLE: parts[0]}
    return {f"model-{i:05d}-of-{len(parts):05d}.safetensors": part for i, part in enumerate(parts, 1)}


def config_of(
    shape: Shape, dtype: torch.dtype, begin: int | None, end: int | None, score: Scored | None = None
) -> dict[str, Any]:
    """What ``config.json`` says: the shape, the type of the weights, the ids that begin and end a document.

    A reward model's has one label, the reward.
    """
    kind: dict[str, Any] = {"architectures": ["LlamaForCausalLM"]}
    if score is not None:
        labels = {"id2label": {"0": "reward"}, "label2id": {"reward": 0}}
        kind = {"architectures": ["LlamaForSequenceClassification"], **labels, "pad_token_id": score.padding}
    return {
        **kind,
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": begin,
        "eos_token_id": end,
        **to_config(shape),
    }


def export_hub(
    source: Source,
    out: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = 5 * 10**9,
    boundaries: tuple[int, int] | None = None,
    score: Scored | None = None,
    beside: Mapping[str, bytes] | None = None,
    report: Report = silent,
) -> None:
    """Write a folder that transformers loads; ``boundaries`` are the ids of begin and end, ``beside`` further files.

    With a ``score`` it is a reward model's, a LlamaForSequenceClassification.
    """
    files = hub_weights(source.shape, dtype, shard_bytes, score)
    where = spans(source.shape, HUGGING_FACE)
    begin, end = boundaries or (None, None)

    def read(name: str) -> Tensor:
        if score is not None and name == SCORE_NAME:
            return score.vector[None]
        span = where[name]
        return source.rows(span.ours, span.start, span.end)

    total = sum(entry.bytes for entries in files.values() for entry in entries)
    told = Told("export", total, report)

    def fill(folder: Path) -> None:
        for file, entries in files.items():
            write_safetensors(folder / file, entries, read, told)
        if len(files) > 1:
            weight_map = {entry.name: file for file, entries in files.items() for entry in entries}
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        config = config_of(source.shape, dtype, begin, end, score)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        for name, data in (beside or {}).items():
            (folder / name).write_bytes(data)

    write_new(out, fill)


def export_ours(
    source: Source, out: Path, *, beside: Mapping[str, bytes] | None = None, report: Report = silent
) -> None:
    """Write a folder that a run can start from: our names and joined matrices, in the types that the source has."""
    write_new(out, lambda folder: fill_ours(source, folder, beside or {}, report))


def fill_ours(source: Source, folder: Path, beside: Mapping[str, bytes], report: Report = silent) -> None:
    """Write the files of :func:`export_ours` into a folder."""
    sizes = parameters(source.shape)
    entries = [Entry(name, source.dtype(name), size) for name, size in sizes.items()]
    told = Told("import", sum(entry.bytes for entry in entries), report)
    write_safetensors(folder / WEIGHTS, entries, source.rows, told)
    (folder / SHAPE).write_text(json.dumps(source.shape.to_json(), indent=1) + "\n")
    for name, data in beside.items():
        (folder / name).write_bytes(data)


def add_ours(source: Source, folder: Path, *, beside: Mapping[str, bytes] | None = None) -> None:
    """Put the files of :func:`export_ours` into a folder that is there, as a stage's; the shape, which makes it a
    model, comes last, so that a kill leaves none that is half one.
    """

    def fill(temporary: Path) -> None:
        fill_ours(source, temporary, beside or {})

    whole = folder / ".model"
    write_folder(whole, fill)
    for file in sorted(whole.iterdir(), key=lambda file: file.name == SHAPE):
        commit(file, folder / file.name)
    whole.rmdir()


def write_new(out: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder whole."""
    refuse_existing(out)
    write_folder(out, fill)


def refuse_existing(out: Path) -> None:
    """A ValueError where there is something already, which is never replaced; the folder around it is made."""
    if out.exists():
        raise ValueError(f"{out} is there already; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)


class Told:
    """Adds up the bytes written and reports them."""

    def __init__(self, label: str, total: int, report: Report) -> None:
        self.label, self.total, self.report, self.done = label, total, report, 0

    def __call__(self, count: int) -> None:
        """So many more."""
        self.done += count
        self.report(self.label, self.done, self.total)
