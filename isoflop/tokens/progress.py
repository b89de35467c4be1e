"""How far a preparation is: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float, float], None]
"""Called as (stage, done, total), in bytes; the stages are "read", "tokenizer" and "encode"."""

_SECONDS_BETWEEN_LINES = 10.0


def silent(stage: str, done: float, total: float) -> None:
    """Show nothing."""


@contextmanager
def console() -> Iterator[Progress]:
    """Progress on standard error, as a bar if that is a terminal and as plain lines if not."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:>9}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(stage: str, done: float, total: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


class _Lines:
    """The first line of a stage after ten seconds of it: what takes less needs none."""

    def __init__(self) -> None:
        self._stage = ""

    def __call__(self, stage: str, done: float, total: float) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._told = stage, now, now
        if now - self._told >= _SECONDS_BETWEEN_LINES and done:
            self._told = now
            left = (now - self._began) * (total - done) / done
            print(f"{stage}: {done / 1e6:.0f} of {total / 1e6:.0f} MB, {left:.0f} s left", file=sys.stderr)
