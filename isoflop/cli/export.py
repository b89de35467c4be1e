"""``isoflop export``: a model into the files that others read."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.model.source import Source
    from isoflop.tokens.tokenizer import Tokenizer

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
        dry_run: Print what would be written, and do nothing.
        json: Print JSON.
    """

    model: tyro.conf.Positional[Path]
    out: Path
    format: Literal["hf", "gguf"] = "hf"
    dtype: Literal["bf16", "fp32", "f16", "q8_0"] = "bf16"
    shard_size: str = "5GB"
    tokenizer: Path | None = None
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop export", description=DESCRIPTION)
    from isoflop.model.export import refuse_existing
    from isoflop.training.weights import open_weights

    if a.format == "hf" and a.dtype == "q8_0":
        raise ValueError("a Hugging Face folder has no q8_0; use --dtype bf16, or --format gguf")
    shard_bytes = size(a.shard_size)
    source = open_weights(a.model)
    tokenizer = tokenizer_of(a, source)
    files = planned(a, source, shard_bytes)
    if not a.dry_run:
        refuse_existing(a.out)
        write(a, source, tokenizer, shard_bytes)
    show(a, source, files, tokenizer)


def write(a: Arguments, source: Source, tokenizer: Tokenizer | None, shard_bytes: int) -> None:
    """Write the folder or the file."""
    from isoflop.progress import console

    shape = source.shape
    with console() as report:
        if a.format == "gguf":
            from isoflop.model.gguf import export_gguf
            from isoflop.tokens.gguf import vocabulary

            fields = None if tokenizer is None else vocabulary(tokenizer, shape.vocab)
            export_gguf(source, a.out, packing=a.dtype, vocabulary=fields, name=a.out.stem, report=report)
        else:
            from isoflop.model.export import DTYPES, export_hub
            from isoflop.tokens.hub import hub_files

            export_hub(
                source,
                a.out,
                dtype=DTYPES[a.dtype],
                shard_bytes=shard_bytes,
                boundaries=None if tokenizer is None else (tokenizer.bos, tokenizer.eos),
                beside=None if tokenizer is None else hub_files(tokenizer, shape.context),
                report=report,
            )


def tokenizer_of(a: Arguments, source: Source) -> Tokenizer | None:
    """The tokenizer to go with the weights, if there is one; a ValueError if it has more ids than they."""
    from isoflop.tokens.tokenizer import Tokenizer
    from isoflop.training.weights import tokenizer_beside

    path = a.tokenizer or tokenizer_beside(a.model)
    if path is None:
        return None
    tokenizer = Tokenizer.load(path)
    if tokenizer.vocab_size > source.shape.vocab:
        raise ValueError(f"{path} has {tokenizer.vocab_size:,} ids and the model only {source.shape.vocab:,}")
    return tokenizer


def planned(a: Arguments, source: Source, shard_bytes: int) -> dict[str, int]:
    """Bytes of weights in each file that holds some."""
    if a.format == "gguf":
        from isoflop.model.gguf import packed_bytes, tensors

        return {a.out.name: sum(packed_bytes(*entry) for entry in tensors(source.shape, a.dtype).values())}
    from isoflop.model.export import DTYPES, hub_weights

    files = hub_weights(source.shape, DTYPES[a.dtype], shard_bytes)
    return {name: sum(entry.bytes for entry in entries) for name, entries in files.items()}


def show(a: Arguments, source: Source, files: dict[str, int], tokenizer: Tokenizer | None) -> None:
    """Print what was or would be written."""
    from isoflop.planning.shape import human

    total = sum(files.values())
    if a.json:
        found: dict[str, Any] = {"out": str(a.out), "format": a.format, "dtype": a.dtype, "written": not a.dry_run}
        shape = {"parameters": source.shape.total, "shape": asdict(source.shape)}
        kind = None if tokenizer is None else tokenizer.kind
        print(json.dumps(found | shape | {"files": files, "bytes": total, "tokenizer": kind}))
        return
    words = "would be " if a.dry_run else ""
    print(f"{a.out}: {human(source.shape.total)} parameters as {a.dtype}, {total:,} bytes of weights {words}written")
    if len(files) > 1:
        print("\n".join(f"  {name}  {size:,} bytes" for name, size in files.items()))
    if tokenizer is None:
        print("  without a tokenizer: none lies beside the model; give one with --tokenizer")


def size(text: str) -> int:
    """Bytes, as people write them: 500MB, 5GB, 1048576."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None or (number := int(float(found[1]) * UNITS[found[2]])) < 1:
        raise ValueError(f"--shard-size is {text!r}: give a positive number of bytes, such as 500MB or 5GB")
    return number
