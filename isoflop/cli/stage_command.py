"""What the commands of post-training's stages have in common: a config from a file and flags, a dry run, the stage."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import tyro

if TYPE_CHECKING:
    from isoflop.posttraining.outlook import Outlook
    from isoflop.posttraining.settings import StageConfig

C = TypeVar("C", bound="StageConfig")


@dataclass(frozen=True)
class Arguments(Generic[C]):
    """Arguments of a stage's command.

    Attributes:
        stage: What the stage is told; a config file comes before flags that take several values.
        out: Directory of the stage.
        config: TOML file with what the stage is told; a stage that has begun has its own.
        ranks: Processes of one thread that share every batch on a CPU; by default one a processor.
        dry_run: Read the data, say what the stage would do and cost, and do nothing.
        json: Print JSON.
    """

    stage: Annotated[C, tyro.conf.arg(name="")]
    out: Path
    config: tyro.conf.Positional[Path | None] = None
    ranks: int | None = None
    dry_run: bool = False
    json: bool = False


def parse(kind: type[C], arguments: list[str], prog: str, description: str) -> tuple[Arguments[C], C]:
    """The arguments, and the stage's config: that of a file, if there is one, with what flags say instead.

    Paths in a file are relative to the stage's directory, those of flags to where the command is called.
    """
    from isoflop import config as configuration

    file = config_file(arguments)
    known = configuration.load(kind, file) if file else None
    options: dict[str, Any] = {"args": arguments, "prog": prog, "description": description}
    if known is not None:
        options["default"] = Arguments(known, tyro.MISSING)
    a = tyro.cli(Arguments[kind], **options)  # type: ignore[valid-type]
    changed = {
        field.name: relative(value, a.out)
        for field in fields(a.stage)
        if field.metadata.get("path") and (value := getattr(a.stage, field.name)) != getattr(known, field.name, None)
    }
    return a, replace(a.stage, **changed)


def config_file(arguments: list[str]) -> Path | None:
    """The config file that a command line names, or that of the stage which has begun in the directory it names."""
    if named := next((word for word in arguments if word.endswith(".toml")), None):
        return Path(named)
    joined = [word.removeprefix("--out=") for word in arguments if word.startswith("--out=")]
    after = [arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word == "--out"]
    return next((file for out in joined + after if (file := Path(out) / "stage.toml").exists()), None)


def relative(value: Any, out: Path) -> Any:
    """A path, or several, as the config of a stage in directory ``out`` has it."""
    if isinstance(value, tuple):
        return tuple(relative(each, out) for each in value)
    return value if not value or os.path.isabs(value) else os.path.relpath(value, out)


def main(kind: type[C], arguments: list[str], prog: str, description: str) -> None:
    """Run the command of a stage."""
    a, config = parse(kind, arguments, prog, description)
    from isoflop.posttraining.launch import outlook, perform_here
    from isoflop.progress import console

    if a.dry_run:
        seen, besides = outlook(config, a.out, a.ranks)
        print(json.dumps(seen.to_json() | besides) if a.json else described(config, seen, besides))
        return
    with console() as report:
        summary = perform_here(config, a.out, report, a.ranks)
    if int(os.environ.get("RANK", "0")):
        return  # torchrun's first process speaks for all
    if a.json:
        print(json.dumps(summary))
        return
    figures = ", ".join(
        f"{name.removeprefix('validation_').replace('_', ' ')} {value:.4f}"
        for name, value in summary.items()
        if name.startswith("validation_") and isinstance(value, float)
    )
    if "data" in summary:
        print(summary["data"])
    if "warning" in summary:
        print(f"warning: {summary['warning']}", file=sys.stderr)
    held_out = f"held out: {figures}; " if figures else ""
    print(f"{held_out}{summary['steps']:,} steps in {summary['seconds']:.0f} s: {a.out}")


def described(config: StageConfig, seen: Outlook, besides: dict[str, Any]) -> str:
    """The config, and below it as comments what follows from it."""
    from isoflop import config as configuration
    from isoflop.cli.tables import aligned
    from isoflop.planning.shape import human
    from isoflop.progress import spoken

    counts = "".join(f", {value:,} {name}" for name, value in besides.items() if isinstance(value, int))
    rows = [
        *([("data", str(besides["data"]))] if "data" in besides else []),
        ("examples", f"{seen.examples:,} to train on, {seen.held_out:,} held out{counts}"),
        ("tokens", f"{seen.tokens:,} over {config.epochs:g} epochs, of which {seen.trained:.1%} are trained on"),
        ("rows", f"of {seen.length:,} tokens, {seen.filled:.1%} filled"),
        ("steps", f"{seen.steps:,} of {config.batch:,} examples"),
        ("parameters", f"{human(seen.parameters)} trained of {human(seen.parameters_in_all)}"),
        ("compute", f"{seen.flops:.3g} FLOPs at most"),
        ("memory", f"{seen.memory / 1e9:.2f} GB a process"),
        ("disk", f"{seen.disk / 1e6:,.1f} MB"),
        ("time", f"{spoken(seen.seconds)}, as a few micro-batches just took"),
    ]
    return configuration.dumps(config) + "\n" + aligned(rows, indent="# ")
