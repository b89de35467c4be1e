"""A step that never ends: the stacks of all threads are left in the run's directory, and the process ends.

A collective that waits for a rank that is gone, a file system that does not answer, a kernel that never returns: no
exception is raised, and the bill goes on. Steps are watched and nothing else: not the first of each shape, in which
something may be compiled, and neither validations nor checkpoints. A thread looks at the clock, which costs training
nothing; behind it the interpreter's own watchdog waits a minute longer, which ends the process even when code that
hangs lets no Python thread run. Whoever started the process reads its status, HUNG, and may start it again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import sys
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

HUNG = 70  # the shell's EX_SOFTWARE
FACTOR, LEAST = 30.0, 300.0
"""Without a limit of its own a step may take thirty times the slowest so far, and five minutes in any case."""
GRACE = 60.0


def stacks_of(run: Path, rank: int) -> Path:
    """Where the stacks of a rank that hung are left."""
    return run / f"stacks-{rank}.txt"


class Watchdog:
    """Watches the steps of one process, which leaves its stacks in ``path``. ``seconds`` may be inf, which is never."""

    def __init__(self, path: Path, seconds: float = 0.0) -> None:
        self.path, self.seconds = path, seconds
        self.slowest = 0.0
        self._seen: set[Hashable] = set()
        self._since = math.inf  # when the step at hand began; not while none is watched
        self._closed = threading.Event()
        self._file = path.open("w")
        self._arm()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def limit(self) -> float:
        """Seconds that a step may take."""
        return self.seconds or max(LEAST, FACTOR * self.slowest)

    def known(self, shape: Hashable) -> bool:
        """Whether a step of this shape has been taken."""
        return shape in self._seen

    @contextmanager
    def step(self, shape: Hashable) -> Iterator[None]:
        """Watch a step, unless it is the first of its shape."""
        began, known = time.monotonic(), self.known(shape)
        if known:
            self._since = began
        try:
            yield
        finally:
            self._since = math.inf
        self._seen.add(shape)
        if known:
            self.slowest = max(self.slowest, time.monotonic() - began)

    def close(self) -> None:
        """Watch no longer, and leave no empty file."""
        self._closed.set()
        self._thread.join()
        self._file.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_size == 0:
                self.path.unlink()

    def _arm(self) -> None:
        """Have the process ended from outside the interpreter if this is not done again in time."""
        if self.limit < math.inf:
            faulthandler.dump_traceback_later(self.limit + GRACE, exit=True, file=self._file)

    def _watch(self) -> None:
        try:
            while not self._closed.wait(min(1.0, self.limit / 4)):
                self._arm()
                if time.monotonic() - self._since > self.limit:
                    self._end()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _end(self) -> None:
        sentence = f"no step for {self.limit:.0f} seconds; the stacks of all threads are in {self.path}"
        print(f"isoflop: hung: {sentence}", file=sys.stderr, flush=True)
        print(sentence, file=self._file, flush=True)
        faulthandler.dump_traceback(file=self._file, all_threads=True)
        os._exit(HUNG)
