"""How much of the time since a run began went into steps that count: its attempts, and what they lost.

``attempts.jsonl`` has a line for every start and every stop that could say so, with its cause, for every validation and
checkpoint with what it took, and for every step that was its process's first of a shape. What a kill left behind shows
at the next start, before the metrics are cut back to the checkpoint. Together with the metrics that gives the effective
training time, as the Llama 3 report counts it (arXiv 2407.21783, section 3.3.4): time in steps that were kept over time
elapsed. What a process does before it reaches the run (an interpreter's start, imports) falls to the time between two
attempts; that of the first is not seen.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from isoflop.files import disk_errors
from isoflop.interrupt import Interrupted
from isoflop.training.run import Run

FILE = "attempts.jsonl"
KILLED = "killed"


@dataclass(frozen=True)
class Effective:
    """Where a run's time went, in seconds from its first start on.

    Attributes:
        share: productive over wall.
        wall: all of it, times between attempts included.
        productive: steps that were kept, compiling and warming up taken out.
        compiling: what the first steps of a shape took longer than the others of it, where they were kept.
        validating: validations on the way.
        saving: what training waited for checkpoints.
        building: from each start to its first step.
        lost: steps that had to be taken again, and those of weights that the guard gave up.
        down: from the last sign of life of each attempt to the next start.
        attempts: how often the run was started.
        lost_tokens: tokens of the steps that were taken again.
        skipped_tokens: tokens of the weights given up, which are not read again.
        causes: how the attempts before the last ended.
    """

    share: float
    wall: float
    productive: float
    compiling: float
    validating: float
    saving: float
    building: float
    lost: float
    down: float
    attempts: int
    lost_tokens: int
    skipped_tokens: int
    causes: dict[str, int]


@dataclass
class Attempt:
    """One process's work on a run, from the moment that it holds the run's lock."""

    run: Run
    writes: bool
    began: float
    before: dict[str, Any]
    seen: float | None

    @classmethod
    def begin(cls, run: Run, *, writes: bool = True) -> Attempt:
        """Look at what the last attempt left, before anything is cut back. Only where it ``writes`` is it noted."""
        return cls(run, writes, time.time(), run.last_line(), last_sign(run.path))

    def started(self, tokens: int, seconds: float) -> None:
        """Note that the run goes on at ``tokens`` tokens and ``seconds`` of training, all being built."""
        events = [event for event in read(self.run.path) if event["event"] in ("start", "stop")]
        ended = {"after": events[-1].get("cause", KILLED)} if events else {}
        lost = {
            "lost_tokens": max(0, self.before.get("tokens", 0) - tokens),
            "lost_seconds": round(max(0.0, self.before.get("seconds", 0.0) - seconds), 3),
            "down_seconds": round(self.began - (self.seen or self.began), 3),
        }
        building = round(time.time() - self.began, 3)
        about = {"tokens": tokens, "seconds": round(seconds, 4), "building_seconds": building}
        self.note(event="start", time=self.began, **(about | ended | lost))

    def note(self, **values: Any) -> None:
        """Append a line."""
        if not self.writes:
            return
        path = self.run.path / FILE
        with disk_errors(path), path.open("a") as file:
            file.write(json.dumps(values) + "\n")

    @contextmanager
    def timed(self, event: str, tokens: int) -> Iterator[None]:
        """Note what is done inside, with the seconds that it takes."""
        began = time.perf_counter()
        yield
        self.note(event=event, tokens=tokens, seconds=round(time.perf_counter() - began, 4))

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Note how what is done inside ends, unless it is killed."""
        cause = "finished"
        try:
            yield
        except Interrupted:
            cause = "interrupted"
            raise
        except BaseException as error:
            cause = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.note(event="stop", time=time.time(), cause=cause, tokens=self.run.tokens_so_far())


def read(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's attempts, but for those that a crash cut short."""
    path, events = run / FILE, []
    for line in path.read_text().split("\n") if path.exists() else []:
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return events


def last_sign(run: Path) -> float | None:
    """When a run last wrote a line, in seconds since 1970."""
    times = [path.stat().st_mtime for path in (run / FILE, run / "metrics.jsonl") if path.exists()]
    return max(times, default=None)


def last_start(run: Path) -> int | None:
    """The tokens at which the last attempt began; None before the first."""
    return next((int(event["tokens"]) for event in reversed(read(run)) if event["event"] == "start"), None)


def effective_time(run: Path, now: float | None = None) -> Effective:
    """Where the time of the run in directory ``run`` went, until ``now`` or its last sign of life.

    Raises ValueError where no attempt was noted, as in a run from before they were.
    """
    events, lines = read(run), Run(run).metrics()
    starts = [event for event in events if event["event"] == "start"]
    if not starts:
        raise ValueError(f"{run} has no {FILE}: nothing is known of its attempts")
    base = float(starts[0]["seconds"])
    wall = (now or last_sign(run) or 0.0) - starts[0]["time"]
    compiling, given_up = warmups(events, lines, base), gone_back(lines, base)
    productive = (lines[-1]["seconds"] if lines else base) - base - compiling - given_up

    def total(event: str, key: str) -> float:
        return float(sum(entry[key] for entry in events if entry["event"] == event))

    causes = [start["after"].split(":")[0] for start in starts if "after" in start]
    return Effective(
        share=productive / max(wall, 1e-9),
        wall=wall,
        productive=productive,
        compiling=compiling,
        validating=total("validated", "seconds"),
        saving=total("saved", "seconds") + total("kept in memory", "seconds"),
        building=total("start", "building_seconds"),
        lost=total("start", "lost_seconds") + given_up,
        down=total("start", "down_seconds"),
        attempts=len(starts),
        lost_tokens=int(total("start", "lost_tokens")),
        skipped_tokens=sum(line["tokens"] - line["rewound_to"] for line in lines if "rewound_to" in line),
        causes={cause: causes.count(cause) for cause in sorted(set(causes))},
    )


def gone_back(lines: list[dict[str, Any]], base: float) -> float:
    """Seconds of the steps between the checkpoints that a run went back to and the steps at which it did."""
    at = {line["tokens"]: line["seconds"] for line in lines}
    return float(sum(line["seconds"] - at.get(line["rewound_to"], base) for line in lines if "rewound_to" in line))


def warmups(events: list[dict[str, Any]], lines: list[dict[str, Any]], base: float) -> float:
    """Seconds by which steps that were their process's first of a shape exceed the others of that shape."""
    first: set[int] = set()  # the tokens after such steps, of those that were kept
    for event in events:
        if event["event"] == "start":
            first = {tokens for tokens in first if tokens <= event["tokens"]}
        elif event["event"] == "new shape":
            first.add(event["tokens"])
    before = [base, *(line["seconds"] for line in lines)]
    took = [(line, after - earlier) for line, (earlier, after) in zip(lines, pairwise(before), strict=True)]
    usual: dict[tuple[int, int], list[float]] = {}
    for line, seconds in took:
        if line["tokens"] not in first:
            usual.setdefault((line["batch_tokens"], line["context"]), []).append(seconds)
    medians = {shape: statistics.median(those) for shape, those in usual.items()}
    excess = (
        seconds - medians.get((line["batch_tokens"], line["context"]), seconds)
        for line, seconds in took
        if line["tokens"] in first
    )
    return float(sum(max(0.0, seconds) for seconds in excess))


def summary(run: Path) -> dict[str, Any]:
    """The effective time until now as a run's summary has it."""
    found = asdict(effective_time(run, time.time()))
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}
