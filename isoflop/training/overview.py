"""What a run's directory says of it at a glance: how far it is, its loss so far, its speed, when it will be done.

Reads the config, the summary and some spots of the metrics, so that a run of a million steps costs what a short one
does: about 250 kB of reading. Nothing in a directory is believed: what cannot be read is said or left out. Knows no
torch.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from isoflop import config as configuration
from isoflop.files import is_locked
from isoflop.training.config import TrainConfig

State = Literal["waiting", "running", "stopped", "finished", "unreadable"]
Lines = list[dict[str, Any]]

SPOTS, SPOT = 48, 4096
"""Places of a long file of metrics that are read, and bytes read at each."""
FRESH = 60.0
"""Seconds after its last line within which a run counts as running, where locks of other machines are not seen."""
ACTIVITY = "seconds/"
RECENT = 20
"""Lines whose mean is the loss now."""


@dataclass(frozen=True)
class Overview:
    """A run at a glance. What is not known is None; ``problem`` says why a run is unreadable.

    ``loss`` is the mean of the last steps' training losses, ``curve`` pairs of tokens and loss over the run,
    ``time`` each activity's share of it (``training.clock``), ``seconds_left`` an estimate for a run that is running.
    """

    path: Path
    state: State
    config: TrainConfig | None = None
    problem: str = ""
    tokens: int = 0
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    peak_memory: float | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    curve: tuple[tuple[int, float], ...] = ()
    time: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """Tokens of the whole run."""
        return None if self.config is None else self.config.schedule.tokens

    def loss_at(self, tokens: int, points: int = 3) -> float | None:
        """The mean loss of the points of the curve nearest to ``tokens``."""
        nearest = sorted(self.curve, key=lambda point: abs(point[0] - tokens))[:points]
        return fmean(loss for _, loss in nearest) if nearest else None

    def to_json(self) -> dict[str, Any]:
        """The overview as plain values, without the config."""
        values = {name: value for name, value in vars(self).items() if name != "config"}
        return values | {"path": str(self.path), "total": self.total, "curve": [list(point) for point in self.curve]}


def overview(path: Path) -> Overview:
    """What the run in directory ``path`` says."""
    try:
        config = configuration.load(TrainConfig, path / "config.toml")
    except (ValueError, TypeError, OSError) as error:
        return Overview(path, "unreadable", problem=str(error))
    metrics = path / "metrics.jsonl"
    spots, summary = read_spots(metrics), read_summary(path)
    steps = [line for line in spots if finite(line.get("loss"))]
    last, total = (spots[-1] if spots else {}), config.schedule.tokens
    tokens, rate = int(last.get("tokens", 0)), latest(spots, "tokens_per_second") or speed(spots[-RECENT:])
    state: State = "finished" if summary else "running" if is_running(path) else "stopped" if spots else "waiting"
    return Overview(
        path,
        state,
        config,
        tokens=int(summary.get("tokens", tokens)),
        loss=fmean(line["loss"] for line in steps[-RECENT:]) if steps else None,
        validation_loss=summary.get("validation_loss") or latest(spots, "validation_loss"),
        tokens_per_second=rate,
        mfu=latest(spots, "mfu"),
        peak_memory=latest(spots, "peak_memory"),
        seconds=summary.get("seconds") or last.get("seconds"),
        seconds_left=(total - tokens) / rate if rate and state == "running" else None,
        curve=tuple((int(line["tokens"]), float(line["loss"])) for line in steps),
        time=shares(spots),
    )


def find_runs(folder: Path) -> list[Path]:
    """The directories of runs in and under ``folder``: those with a config and a trace of training, or a whole config.

    Hidden directories, checkpoints and links to directories are not entered.
    """
    found = []
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name != "checkpoints" and not name.startswith("."))
        here = Path(place)
        if "config.toml" in files and ("metrics.jsonl" in files or is_config(here / "config.toml")):
            found.append(here)
    return found


def is_config(path: Path) -> bool:
    """Whether a file is the config of a run."""
    try:
        configuration.load(TrainConfig, path)
    except (ValueError, TypeError, OSError):
        return False
    return True


def is_running(path: Path) -> bool:
    """Whether something trains the run in directory ``path``: its lock is held, or its metrics are fresh."""
    metrics = path / "metrics.jsonl"
    return is_locked(path / ".lock") or (metrics.exists() and time.time() - metrics.stat().st_mtime < FRESH)


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of a finished run; nothing where there is none or no valid one."""
    try:
        values = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def read_spots(path: Path) -> Lines:
    """Lines of a file of metrics by ascending tokens: all of a short file, those at even spots of a long one."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= SPOTS * SPOT:
                lines = list(parsed(file.read(), whole=True))
            else:
                lines = []
                for spot in range(SPOTS):
                    file.seek((size - SPOT) * spot // (SPOTS - 1))
                    lines += parsed(file.read(SPOT), whole=spot == 0)
    except OSError:
        return []
    return sorted(lines, key=lambda line: line["tokens"])


def parsed(data: bytes, *, whole: bool) -> Iterator[dict[str, Any]]:
    """The lines of metrics in some bytes of the file; what was cut, or is no such line, is left out.

    ``whole`` says that the first line is not cut.
    """
    for line in data.split(b"\n")[0 if whole else 1 : -1]:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and finite(values.get("tokens")):
            yield values


def finite(value: Any) -> bool:
    """Whether a value is a number, and a finite one."""
    return isinstance(value, int | float) and math.isfinite(value)


def latest(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    """The last finite value of a key."""
    return next((float(line[key]) for line in reversed(lines) if finite(line.get(key))), None)


def shares(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Each activity's share of the time that some lines account for, the greatest first."""
    seconds: dict[str, float] = {}
    for line in lines:
        for key, value in line.items():
            if key.startswith(ACTIVITY) and finite(value):
                seconds[key.removeprefix(ACTIVITY)] = seconds.get(key.removeprefix(ACTIVITY), 0.0) + value
    total = sum(seconds.values())
    return {key: value / total for key, value in sorted(seconds.items(), key=lambda item: -item[1]) if total > 0}


def speed(lines: Sequence[dict[str, Any]]) -> float | None:
    """Tokens per second of training between the first and the last of some lines."""
    timed = [(float(line["tokens"]), float(line["seconds"])) for line in lines if finite(line.get("seconds"))]
    if len(timed) < 2 or timed[-1][1] <= timed[0][1]:
        return None
    return (timed[-1][0] - timed[0][0]) / (timed[-1][1] - timed[0][1])
