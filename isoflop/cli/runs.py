"""``isoflop runs``: the runs under some directories side by side, and what tells two of them apart."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from isoflop.training.overview import Overview

DESCRIPTION = """Lists the runs in and under directories, of sweeps too: how far each is, its loss, speed and time
left. Reads the directories and nothing else, so it may be asked at any moment and from any machine that sees them.

examples:
  isoflop runs                                     every run under this directory
  isoflop runs runs/ sweeps/a --watch              again every two seconds
  isoflop runs --diff runs/a runs/b                what their configs differ in, and what came of it
  isoflop runs runs/ --json | jq '.[].loss'
"""

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 16
EVERY = 2.0
HEAD = ("run", "model", "state", "tokens", "loss", "validation", "tokens/s", "MFU", "time left", "loss so far")


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop runs``.

    Attributes:
        folders: Directories of runs, or directories that hold such; by default this one.
        diff: Two runs to compare instead.
        watch: Show the table again every two seconds until stopped.
        json: Print JSON.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]] = (Path("."),)
    diff: tuple[Path, Path] | None = None
    watch: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop runs", description=DESCRIPTION)
    if a.diff is not None:
        compare(*a.diff, as_json=a.json)
    elif a.watch:
        follow(a.folders)
    else:
        found = look(a.folders)
        if a.json:
            print(json.dumps([run.to_json() for run in found]))
        else:
            from isoflop.cli.tables import show

            show(HEAD, rows(found))


def look(folders: Sequence[Path]) -> list[Overview]:
    """An overview of every run in and under some directories. A ValueError where there is none, or no directory."""
    from isoflop.training.overview import find_runs, overview

    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"there is no directory {folder}")
    paths = dict.fromkeys(path for folder in folders for path in find_runs(folder))
    if not paths:
        raise ValueError(f"no run in or under {', '.join(map(str, folders))}: a run is a directory with a config.toml")
    return [overview(path) for path in paths]


def follow(folders: Sequence[Path]) -> None:
    """Show the table again and again: in place on a terminal, one below the other elsewhere."""
    from isoflop.cli.tables import show

    try:
        while True:
            found = look(folders)
            if sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            show(HEAD, rows(found))
            sys.stdout.flush()
            if all(run.state in ("finished", "unreadable") for run in found):
                return
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return


def rows(found: Sequence[Overview]) -> list[tuple[str, ...]]:
    """A row of the table for each run."""
    from isoflop.planning.shape import human
    from isoflop.progress import spoken

    table = []
    for run in found:
        if run.config is None or run.total is None:
            table.append((str(run.path), "", f"unreadable: {run.problem}", *[""] * (len(HEAD) - 3)))
            continue
        state = run.state if run.state == "finished" else f"{run.state} at {run.tokens / run.total:.0%}"
        table.append(
            (
                str(run.path),
                run.config.shape.name,
                state,
                f"{human(run.tokens)} of {human(run.total)}",
                said(run.loss, ".4f"),
                said(run.validation_loss, ".4f"),
                said(run.tokens_per_second, ",.0f"),
                said(run.mfu, ".0%"),
                "" if run.seconds_left is None else spoken(run.seconds_left),
                sparkline([loss for _, loss in run.curve]),
            )
        )
    return table


def said(value: float | None, form: str) -> str:
    """A figure, or nothing where there is none."""
    return "" if value is None else format(value, form)


def megabytes(value: float | None) -> str:
    """Bytes in megabytes."""
    return said(None if value is None else value / 1e6, ",.0f")


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Values as a line of bars from their least to their greatest, each the mean of its stretch."""
    count = min(width, len(values))
    cuts = [len(values) * i // count for i in range(count + 1)] if count else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def compare(first: Path, second: Path, *, as_json: bool) -> None:
    """Print the settings in which two runs differ, and what they came to, at the same tokens too."""
    from isoflop.cli.tables import show
    from isoflop.planning.shape import human
    from isoflop.training.overview import overview

    a, b = overview(first), overview(second)
    for run in (a, b):
        if run.config is None:
            raise ValueError(f"{run.path} is no run that can be read: {run.problem}")
    settings = differences(a.config, b.config)
    if as_json:
        print(json.dumps({"settings": settings, "runs": [a.to_json(), b.to_json()]}))
        return
    common = min(a.tokens, b.tokens)
    results: list[tuple[str, str, str]] = [
        ("tokens", human(a.tokens), human(b.tokens)),
        (f"loss at {human(common)} tokens", said(a.loss_at(common), ".4f"), said(b.loss_at(common), ".4f")),
        ("loss", said(a.loss, ".4f"), said(b.loss, ".4f")),
        ("validation loss", said(a.validation_loss, ".4f"), said(b.validation_loss, ".4f")),
        ("tokens per second", said(a.tokens_per_second, ",.0f"), said(b.tokens_per_second, ",.0f")),
        ("MFU", said(a.mfu, ".1%"), said(b.mfu, ".1%")),
        ("peak memory, MB", megabytes(a.peak_memory), megabytes(b.peak_memory)),
        *(
            (f"time: {activity}", said(a.time.get(activity), ".1%"), said(b.time.get(activity), ".1%"))
            for activity in dict.fromkeys([*a.time, *b.time])
        ),
    ]
    show(("", str(first), str(second)), [*((key, *map(str, pair)) for key, pair in settings.items()), *results])


def differences(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Every setting in which two configs differ, by its dotted name; None where one has none."""
    from isoflop.config import to_dict

    ours, theirs = flat(to_dict(a)), flat(to_dict(b))
    names = dict.fromkeys([*ours, *theirs])
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
