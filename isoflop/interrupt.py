"""Ctrl-C and SIGTERM as a flag that a loop looks at between steps, so that it can leave in good order.

SIGUSR1, which Slurm can send some time before a job's end, is a wish of its own: to save and go on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 75  # the shell's EX_TEMPFAIL: nothing is wrong, run it again


class Interrupted(Exception):  # noqa: N818 - not an error: the work is saved
    """The work was stopped from outside after saving; the same command goes on."""


def follow_parent() -> None:
    """Ask Linux for a SIGTERM when the parent dies, so that no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """While inside, the first SIGINT or SIGTERM only sets the flag; a second one acts as usual."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: Any) -> None:
        flag.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield flag.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_user_signal(act: Callable[[], None]) -> Iterator[None]:
    """While inside, SIGUSR1 makes ``act`` be called instead of ending the process; in the main thread, on POSIX."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
