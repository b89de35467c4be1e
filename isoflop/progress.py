"""Progress of anything that takes longer than two seconds: a bar with the time left, or plain lines.

Work reports as ``report(label, done, total)``; this module shows it. On a terminal one bar per label, elsewhere a
line every ten seconds and one at the end of each label.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Report = Callable[[str, float, float], None]
"""Called as (label, done, total), in any unit."""

SECONDS_BETWEEN_LINES = 10.0


def silent(label: str, done: float, total: float) -> None:
    """Show nothing."""


def labelled(report: Report, label: str) -> Report:
    """A report that says ``label`` whatever it is told."""
    return lambda _, done, total: report(label, done, total)


@contextmanager
def console() -> Iterator[Report]:
    """Progress on standard error, as bars if that is a terminal and as plain lines if not."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    left = TimeRemainingColumn(elapsed_when_finished=True)
    columns = (TextColumn("{task.description:>14}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), left)
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(label: str, done: float, total: float) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label)
            bars.update(tasks[label], completed=done, total=total)

        yield show


@dataclass
class Lines:
    """Plain lines: the first of a label after ten seconds of it, because what takes less needs none."""

    label: str = ""
    began: float = 0.0
    told: float = 0.0
    start: float = 0.0

    def __call__(self, label: str, done: float, total: float) -> None:
        """Say how far ``label`` is, if it is time to."""
        now = time.monotonic()
        if label != self.label:
            self.label, self.began, self.told, self.start = label, now, now, done
        if now - self.told < SECONDS_BETWEEN_LINES or done <= self.start:
            return
        self.told = now
        left = (now - self.began) * (total - done) / (done - self.start)
        # The first percent includes compiling and warming up, which says nothing about the rest.
        estimate = f", {spoken(left)} left" if done - self.start > 0.01 * total else ""
        print(f"{label}: {done / total:.0%}{estimate}", file=sys.stderr, flush=True)


def spoken(seconds: float) -> str:
    """A duration as people say it: 45 s, 3 min 20 s, 2 h 5 min."""
    seconds = max(0, round(seconds))
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
