"""Programs by strangers, run where they can do nothing but compute: what they say, how they ended, how long it took.

Each runs in a process and session of its own, in an empty temporary folder, with nothing to read on standard input and
an empty environment. ``confine.py`` bounds it from inside; from here it has a wall clock and a bound on its output that
holds while the output is read. Whatever it does, the whole group of processes is killed at the end. Hashes of strings
are seeded alike, so that a program's result is the same every time.

Costs 25 ms a program, most of it the start of Python; ``run_all`` keeps every processor busy. A program may read
Python's library and write nowhere. Left out: third-party packages, input, threads, several processes in one program.
Where the kernel lacks something (macOS has neither seccomp nor Landlock, and no bound on memory), ``weaknesses`` says
what a program can do there; use a virtual machine then.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

from isoflop.processors import processors

Status = Literal["ok", "failed", "timeout", "too much output", "killed"]
INSIDE = Path(__file__).with_name("confine.py")
CHUNK = 1 << 16
PAUSE = 0.002  # seconds between looks at a program that closed its output and goes on


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
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="isoflop-", ignore_cleanup_errors=True) as folder:
        Path(folder, "program.py").write_bytes(source.encode("utf-8", "replace"))
        began = time.monotonic()
        process = _start(folder, limits)
        try:
            said, ended = _listen(process, limits, began + limits.seconds)
        finally:
            _kill(process)
        status = ended or _status(process.returncode)
        output, errors = (part.decode("utf-8", "replace") for part in said)
        return Outcome(status, output, errors, time.monotonic() - began)


def run_all(sources: Iterable[str], limits: Limits | None = None) -> list[Outcome]:
    """Run many programs, as many at a time as there are processors; outcomes in the order of the programs."""
    with ThreadPoolExecutor(len(processors())) as pool:
        return list(pool.map(lambda source: run(source, limits), sources))


def _start(folder: str, limits: Limits) -> subprocess.Popen[bytes]:
    # -P -s with an environment of our own is -I but for the seed of hashes, which can be given in no other way
    flags = ("-P", "-s", "-S", "-B", "-X", "utf8")
    bounds = (str(limits.memory), str(math.ceil(limits.seconds)))
    return subprocess.Popen(
        [sys.executable, *flags, str(INSIDE), *bounds],
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _listen(process: subprocess.Popen[bytes], limits: Limits, deadline: float) -> tuple[list[bytes], Status | None]:
    """What a program says until it ends, and why it must be ended if it does not do so itself."""
    pipes: list[IO[bytes]] = [pipe for pipe in (process.stdout, process.stderr) if pipe]
    said = [bytearray() for _ in pipes]
    ended: Status | None = None
    with selectors.DefaultSelector() as selector:
        for place, pipe in enumerate(pipes):
            selector.register(pipe, selectors.EVENT_READ, place)
        while selector.get_map() and not ended:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                chunk = os.read(key.fd, CHUNK)
                room = limits.output - sum(map(len, said))
                said[key.data] += chunk[:room]
                if not chunk:
                    selector.unregister(key.fileobj)
                elif len(chunk) > room:
                    ended = "too much output"
            if time.monotonic() >= deadline:
                ended = ended or "timeout"
    while not ended and process.poll() is None:  # it closed its output and goes on
        time.sleep(PAUSE)
        ended = "timeout" if time.monotonic() >= deadline else None
    return [bytes(part) for part in said], ended


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and whatever it started in its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def _status(code: int) -> Status:
    if code == -signal.SIGXCPU:
        return "timeout"
    return "killed" if code < 0 else "failed" if code else "ok"


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
