"""``isoflop export``: a model into the files that others read."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.training.exchange import GGUFExport, HubExport

DESCRIPTION = """Writes a model as a Hugging Face folder (config.json, safetensors in shards, tokenizer, generation
config) or as one GGUF file for llama.cpp. The model is a run, which stands for its newest checkpoint, one of its
checkpoints, or anything else with weights. One tensor at a time is in memory; what is written is there whole or not at
all.

examples:
  isoflop export runs/mine --out mine-hf                             transformers loads it
  isoflop export runs/mine --out mine.gguf --format gguf --dtype q8_0
  isoflop export runs/mine/checkpoints/0000000001048576 --out early --dtype fp32
  isoflop export runs/mine --out mine-hf --dry-run                   what would be written
"""

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop export``.

    Attributes:
        model: A run, a checkpoint of one, an imported model, a Hugging Face folder or a .gguf file.
        out: The folder, or with --format gguf the file, to write; it must not be there yet.
        format: hf or gguf.
        dtype: Type of the weights; q8_0 (8 bits and a scale for each 32) is for gguf only.
        shard_size: Most bytes of one file of a Hugging Face folder, such as 500MB or 5GB.
        tokenizer: tokenizer.json to put beside the weights, by default the one that the model was trained with.
        averaged: Write a run's averaged weights instead of its last.
        chat: Whether the model answers in the chat format, so that its template is written too and generation stops
            where an answer ends; auto is as the template beside the model says.
        dry_run: Print what would be written, and do nothing.
        json: Print JSON.
    """

    model: tyro.conf.Positional[Path]
    out: Path
    format: Literal["hf", "gguf"] = "hf"
    dtype: Literal["bf16", "fp32", "f16", "q8_0"] = "bf16"
    shard_size: str = "5GB"
    tokenizer: Path | None = None
    averaged: bool = False
    chat: Literal["auto", "yes", "no"] = "auto"
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop export", description=DESCRIPTION)
    from isoflop.progress import console
    from isoflop.tokens.chat_template import answers
    from isoflop.training.exchange import GGUFExport, HubExport, open_with_tokenizer, score_beside

    shard_bytes = size(a.shard_size)
    source, tokenizer = open_with_tokenizer(a.model, a.tokenizer, averaged=a.averaged)
    chat = tokenizer is not None and (answers(a.model) if a.chat == "auto" else a.chat == "yes")
    export: GGUFExport | HubExport
    score = score_beside(a.model, tokenizer)
    if score is not None and a.format == "gguf":
        raise ValueError(f"{a.model} is a reward model, which llama.cpp has no way to be; use --format hf")
    if a.format == "gguf":
        export = GGUFExport(source, tokenizer, a.dtype, chat)
    else:
        export = HubExport(source, tokenizer, a.dtype, shard_bytes, chat, score)
    files = export.files
    if not a.dry_run:
        with console() as report:
            export.write(a.out, report)
    show(a, export, files)


def show(a: Arguments, export: GGUFExport | HubExport, files: dict[str, int]) -> None:
    """Print what was or would be written."""
    from isoflop.planning.shape import human

    shape, total = export.source.shape, sum(files.values())
    if a.json:
        found: dict[str, Any] = {"out": str(a.out), "format": a.format, "dtype": a.dtype, "written": not a.dry_run}
        kind = None if export.tokenizer is None else export.tokenizer.kind
        found |= {"parameters": shape.total, "shape": asdict(shape), "files": files, "bytes": total, "tokenizer": kind}
        found["chat"] = export.chat
        print(json.dumps(found))
        return
    words = "would be " if a.dry_run else ""
    print(f"{a.out}: {human(shape.total)} parameters as {a.dtype}, {total:,} bytes of weights {words}written")
    if len(files) > 1:
        print("\n".join(f"  {name}  {size:,} bytes" for name, size in files.items()))
    if export.chat:
        print("  with its chat template; an answer ends at <|eot_id|>")
    if export.tokenizer is None:
        print("  without a tokenizer: none lies beside the model; give one with --tokenizer")


def size(text: str) -> int:
    """Bytes, as people write them: 500MB, 5GB, 1048576."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None or (number := int(float(found[1]) * UNITS[found[2]])) < 1:
        raise ValueError(f"--shard-size is {text!r}: give a positive number of bytes, such as 500MB or 5GB")
    return number
