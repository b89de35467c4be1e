"""Programs by strangers, run where they can do nothing but compute: what they say, how they ended, how long it took.

Each runs in a process and session of its own, in a temporary folder that holds nothing else, with nothing to read on
standard input and an empty environment. ``confine.py`` bounds it from inside; from outside (``warden.py``) it has a
wall clock and a bound on its output that holds while the output is read. Whatever it does, its whole session is killed
at the end. Hashes of strings are seeded alike, so that a program's result is the same every time.

Costs 6 ms of processor time a program, 60 ms for the start of a warden; ``run_all`` keeps all processors busy. A
program may read Python's library and write nowhere. Left out: third-party packages, input, threads, child processes.
Where the kernel lacks something (macOS has neither seccomp nor Landlock, and no bound on memory), ``weaknesses`` says
what a program can do there; use a virtual machine then.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from isoflop.processors import processors

Status = Literal["ok", "failed", "timeout", "too much output", "killed"]
PACKAGES = Path(__file__).parents[2]


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: Of wall clock, and of processor time.
        memory: Bytes of address space, of which Python itself takes about 30 MiB.
        output: Bytes that it may say, output and errors together.
    """

    seconds: float = 5.0
    memory: int = 256 << 20
    output: int = 64 << 10

    def __post_init__(self) -> None:
        """Refuse limits that nothing could run in."""
        if not 0 < self.seconds < math.inf or self.memory < 64 << 20 or self.output < 1:
            raise ValueError(f"a program needs time, at least 64 MiB of memory and a byte of output, not {self}")


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: ok is exit status 0, failed any other, killed a signal such as that of a crash.
        output: What it printed, as far as the limit goes; bytes that are no text are replaced.
        errors: What it printed to standard error, a traceback for example; both together keep to the limit.
        seconds: From start to end.
    """

    status: Status
    output: str
    errors: str
    seconds: float


def run(source: str, limits: Limits | None = None) -> Outcome:
    """Run one program. Nothing that the program does is an exception here.

    Raises RuntimeError where there are no processes to bound (Windows).
    """
    if os.name != "posix":
        raise RuntimeError("programs are run on Linux and macOS only: elsewhere they cannot be bounded")
    with tempfile.TemporaryDirectory(prefix="isoflop-", ignore_cleanup_errors=True) as folder:
        Path(folder, "program.py").write_bytes(source.encode("utf-8", "replace"))
        with _warden() as warden:
            warden.request({"folder": folder, **vars(limits or Limits())})
            return warden.answer()


def run_all(sources: Iterable[str], limits: Limits | None = None) -> list[Outcome]:
    """Run many programs, as many at a time as there are processors; outcomes in the order of the programs."""
    with ThreadPoolExecutor(len(processors())) as pool:
        return list(pool.map(lambda source: run(source, limits), sources))


class Warden:
    """A process that runs one program at a time."""

    def __init__(self) -> None:
        # -P -s with an environment of our own is -I but for the seed of hashes, which can be given in no other way
        flags = ("-P", "-s", "-S", "-B", "-X", "utf8")
        self.process = subprocess.Popen(
            [sys.executable, *flags, "-m", "isoflop.problems.warden"],
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(PACKAGES)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def request(self, values: dict[str, Any]) -> None:
        """Send a program to be run."""
        assert self.process.stdin
        with suppress(BrokenPipeError):  # then there will be no answer either
            self.process.stdin.write(json.dumps(values).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> Outcome:
        """How it ended; a program that ended its warden, as one may where protections lack, was killed with it."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if line.endswith(b"\n"):
            return Outcome(**json.loads(line))
        self.dismiss()
        return Outcome("killed", "", "", 0.0)

    def dismiss(self) -> None:
        """End the process, and with it the program that it runs."""
        self.process.kill()
        self.process.communicate()


_idle: list[Warden] = []
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a warden answers to one process


@contextmanager
def _warden() -> Iterator[Warden]:
    """A warden for the time of one program: an idle one, else a new one; kept if the program came to its end."""
    with _lock:
        warden = _idle.pop() if _idle else None
    if warden is None or warden.process.poll() is not None:
        warden = Warden()
    try:
        yield warden
    except BaseException:
        warden.dismiss()
        raise
    if warden.process.poll() is None:
        with _lock:
            _idle.append(warden)


@atexit.register
def dismiss_all() -> None:
    """End the idle wardens; the next program starts another."""
    with _lock:
        while _idle:
            _idle.pop().dismiss()


ATTEMPTS = {
    "open sockets": "import socket; socket.socket()",
    "start processes": "import os; os.fork() or os._exit(0)",
    "signal other processes": "import os; os.kill(os.getppid(), 0)",
    "read files": "open('/etc/passwd').read()",
    "write files": "open('written', 'w').write('x')",
    "take more memory than they may": f"bytearray({Limits.memory})",
}


@cache
def weaknesses() -> tuple[str, ...]:
    """What programs can do on this machine though they should not, found out by trying; six runs, once a process."""
    outcomes = run_all(ATTEMPTS.values())
    return tuple(what for what, outcome in zip(ATTEMPTS, outcomes, strict=True) if outcome.status == "ok")
