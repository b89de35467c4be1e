"""Where the time of training goes: seconds by activity, of which there is one at a time.

One that begins inside another interrupts it, so the seconds of all add up to the wall clock. On a GPU a mark is an
event in the stream, read once the device has passed it: nothing waits, and what was not passed yet is counted with the
next reading. Costs about a microsecond a mark on a CPU; all of a run's watching took 0.19% of steps of 10 ms, and
``tests/test_training_watch.py`` holds it to 0.5%. The events of a GPU were not run. Left out: what the device does
inside an activity, which is a profiler's to say.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch

Activity = Literal["data", "compute", "communicate", "optimise", "validate", "save", "other"]
"""``compute`` is forward and backward; ``other`` is what the loop does between the others."""


class Marks(Protocol):
    """A source of moments in time."""

    def mark(self) -> Any:
        """The moment now."""
        ...

    def passed(self, mark: Any) -> bool:
        """Whether that moment has come to pass, so that it can be read."""
        ...

    def between(self, first: Any, second: Any) -> float:
        """Seconds from one moment to another, both passed."""
        ...


class HostMarks:
    """Moments of the processor that runs this code."""

    def mark(self) -> float:
        """Seconds of the performance counter."""
        return time.perf_counter()

    def passed(self, mark: float) -> bool:
        """It has."""
        return True

    def between(self, first: float, second: float) -> float:
        """Their difference."""
        return second - first


class StreamMarks:
    """Moments of a GPU's current stream, which lags behind the processor that feeds it."""

    def mark(self) -> torch.cuda.Event:
        """An event put behind the work queued so far."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def passed(self, mark: torch.cuda.Event) -> bool:
        """Whether the device is past the event."""
        return bool(mark.query())  # type: ignore[no-untyped-call]

    def between(self, first: torch.cuda.Event, second: torch.cuda.Event) -> float:
        """Seconds of the device from one to the other."""
        return float(first.elapsed_time(second)) / 1000


class Clock:
    """Seconds by activity; ``with clock("data"): …`` is one."""

    def __init__(self, device: torch.device) -> None:
        self._marks: Marks = StreamMarks() if device.type == "cuda" else HostMarks()
        self._activity: Activity = "other"
        self._last = self._marks.mark()
        self._pending: deque[tuple[Activity, Any]] = deque()

    @contextmanager
    def __call__(self, activity: Activity) -> Iterator[None]:
        """Count what happens inside as ``activity``'s."""
        outer = self._activity
        self._switch(activity)
        try:
            yield
        finally:
            self._switch(outer)

    def read(self) -> dict[Activity, float]:
        """Seconds of each activity since the last reading, without those that took none."""
        self._switch(self._activity)
        seconds: dict[Activity, float] = {}
        while self._pending and self._marks.passed(self._pending[0][1]):
            activity, end = self._pending.popleft()
            seconds[activity] = seconds.get(activity, 0.0) + self._marks.between(self._last, end)
            self._last = end
        return seconds

    def _switch(self, activity: Activity) -> None:
        """End the stretch at hand, which was the current activity's, and begin one of ``activity``."""
        self._pending.append((self._activity, self._marks.mark()))
        self._activity = activity
