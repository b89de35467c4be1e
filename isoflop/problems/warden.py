"""The keeper of the sandbox: a small process that forks a confined child for every program it is sent.

So no program pays for the start of Python, and none is forked from a large process full of threads. A request is a
line of JSON on standard input: the folder that holds ``program.py``, and limits; the answer is a line on standard
output: how the program ended and what it said, bounded while it was read. The warden ends when its input does, and a
child dies with it. ``sandbox.py`` starts it; what it runs has nothing on the path but the standard library.
"""

import json
import math
import os
import selectors
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from isoflop.problems.confine import confine

PROGRAM = "program.py"
CHUNK = 1 << 16
PAUSE = 0.001  # seconds between looks at a program that closed its output and goes on
MOST_FILES = 64  # that a warden has open, and more


def main() -> None:
    """Answer requests until there are no more."""
    sys.path[:] = [path for path in sys.path if path != os.environ.get("PYTHONPATH")]
    os.environ.clear()
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)  # a child must find nothing that was read ahead
    while line := requests.readline():
        os.write(1, json.dumps(keep(**json.loads(line))).encode() + b"\n")


def keep(folder: str, seconds: float, memory: int, output: int) -> dict[str, Any]:
    """Run the program of a folder in a child, to its end or to a limit; whatever it started is killed."""
    pipes = os.pipe(), os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        become(folder, [write for _, write in pipes], memory, seconds)
    for _, write in pipes:
        os.close(write)
    said, why = listen([read for read, _ in pipes], output, began + seconds)
    for read, _ in pipes:
        os.close(read)
    code, why = await_end(child, why, began + seconds)
    words = [part.decode("utf-8", "replace") for part in said]
    status = why or status_of(code)
    return {"status": status, "output": words[0], "errors": words[1], "seconds": time.monotonic() - began}


def listen(ends: list[int], output: int, deadline: float) -> tuple[list[bytes], str]:
    """What comes out of pipes until they are closed, and why no more was listened to, "" if they were."""
    said = [bytearray() for _ in ends]
    with selectors.DefaultSelector() as selector:
        for place, end in enumerate(ends):
            selector.register(end, selectors.EVENT_READ, place)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(key.fd, CHUNK)
                room = output - sum(map(len, said))
                said[key.data] += chunk[:room]
                if not chunk:
                    selector.unregister(key.fd)
                elif len(chunk) > room:
                    return [bytes(part) for part in said], "too much output"
            if time.monotonic() >= deadline:
                return [bytes(part) for part in said], "timeout"
    return [bytes(part) for part in said], ""


def await_end(child: int, why: str, deadline: float) -> tuple[int, str]:
    """Exit code of a child, which is killed where there is a reason to or the deadline passes; and that reason."""
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and not why:  # it closed its output and may go on
        time.sleep(PAUSE)
        ended, status = os.waitpid(child, os.WNOHANG)
        why = "timeout" if not ended and time.monotonic() >= deadline else ""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.kill(child, signal.SIGKILL)  # it may not have a group of its own yet
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), why


def status_of(code: int) -> str:
    """How a program ended that was not made to."""
    if code == -signal.SIGXCPU:
        return "timeout"
    return "killed" if code < 0 else "failed" if code else "ok"


def become(folder: str, streams: list[int], memory: int, seconds: float) -> NoReturn:
    """Turn this process, just forked, into the program: nothing of the warden's stays open."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for place, end in enumerate((os.open(os.devnull, os.O_RDONLY), *streams)):
            os.dup2(end, place)
        os.closerange(3, MOST_FILES)
        with open(PROGRAM, encoding="utf-8") as file:
            source = file.read()
        sys.argv = [PROGRAM]
        confine(memory, math.ceil(seconds))
        code = execute(source)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def execute(source: str) -> int:
    """The exit code of a program; errors are told as Python tells them, without this file's frames."""
    try:
        exec(compile(source, PROGRAM, "exec"), {"__name__": "__main__"})
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code & 255 if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        own = error.__traceback__
        error.__traceback__ = own and own.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


if __name__ == "__main__":
    main()
