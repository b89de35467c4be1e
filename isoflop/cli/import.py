"""``isoflop import``: somebody's model as one that a run can start from."""
# ruff: noqa: N999 - a command's file has its name, and nothing imports it by statement

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from isoflop.training.exchange import Import

DESCRIPTION = """Reads a Hugging Face folder of a Llama (1, 2, 3, 3.1, 3.2) or a .gguf file, holds every tensor against
its config, and writes a folder with the weights in isoflop's layout, their shape, and the tokenizer. A run begins with
it by initial = "THAT FOLDER" in its config, and a corpus is prepared for it by --tokenizer THAT FOLDER. (A run begins
with a Hugging Face folder too, without this; this checks it, keeps it in one file and takes GGUF.)

examples:
  isoflop import Llama-3.2-1B --out llama-1b
  isoflop import llama-1b-q8_0.gguf --out llama-1b
  isoflop import Llama-3.2-1B --out llama-1b --dry-run      check it and print its shape, as a config has it
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop import``.

    Attributes:
        model: A Hugging Face folder, a .gguf file, or anything else with weights, such as a run.
        out: Folder to write; it must not be there yet.
        dry_run: Check the model and print its shape, and do nothing.
        json: Print JSON.
    """

    model: tyro.conf.Positional[Path]
    out: Path
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop import", description=DESCRIPTION)
    from isoflop.progress import console
    from isoflop.training.exchange import Import

    model = Import.open(a.model)
    if not a.dry_run:
        with console() as report:
            model.write(a.out, report)
    show(a, model)


def show(a: Arguments, model: Import) -> None:
    """Print what was or would be written, and the shape as a config has it."""
    from isoflop import config as configuration
    from isoflop.planning.shape import human

    shape, kind = model.shape, None if model.tokenizer is None else model.tokenizer.kind
    if a.json:
        found = {"out": str(a.out), "written": not a.dry_run, "parameters": shape.total, "shape": asdict(shape)}
        print(json.dumps(found | {"tokenizer": kind, "tokenizer_error": model.trouble or None}))
        return
    words = "would be written" if a.dry_run else "written"
    print(f"{a.out}: {human(shape.total)} parameters {words}")
    if kind is None:
        print(f"without a tokenizer: {model.trouble}")
    print(f'\na run begins with it by this in its config:\n\ninitial = "{a.out.resolve()}"\n\n[shape]')
    print(configuration.dumps(shape).replace("[rope_scaling]", "[shape.rope_scaling]"), end="")
