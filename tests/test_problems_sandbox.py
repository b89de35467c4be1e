"""Programs by strangers: however one tries, it computes, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isoflop.problems import sandbox
from isoflop.problems.confine import ALLOW, ANY_BIT, CALLS, EQUAL, LOAD, NUMBER, REFUSE, RETURN, WRITING, instructions
from isoflop.problems.sandbox import Limits, run, run_all

AMPLE = Limits(seconds=20.0)  # none of these may end by the clock, however busy the machine
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own protections are Linux's")


def test_a_program_computes_with_the_standard_library_and_is_heard() -> None:
    outcome = run(
        "import math, json, re, random, collections, sys\nprint(math.comb(10, 3))\nprint('no', file=sys.stderr)"
    )
    assert (outcome.status, outcome.output, outcome.errors) == ("ok", "120\n", "no\n")


def test_outcomes_of_many_programs_are_in_their_order() -> None:
    assert [outcome.output for outcome in run_all([f"print({n})" for n in range(6)])] == [f"{n}\n" for n in range(6)]


def test_a_traceback_shows_the_program_and_nothing_of_this_machine() -> None:
    outcome = run("def f(x):\n    return 1 / x\nf(0)")
    assert outcome.status == "failed"
    assert "ZeroDivisionError" in outcome.errors
    assert 'File "program.py", line 2, in f' in outcome.errors
    assert str(Path(sandbox.__file__).parent) not in outcome.errors


def test_results_do_not_depend_on_how_strings_are_hashed_this_time() -> None:
    assert len({run("print(set('abcdefgh'))").output for _ in range(3)}) == 1


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        "import signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ntime.sleep(60)",
    ],
    ids=["busy", "asleep", "silent", "deaf"],
)
def test_a_program_that_does_not_end_is_ended(program: str) -> None:
    began = time.monotonic()
    assert run(program, Limits(seconds=0.6)).status == "timeout"
    assert time.monotonic() - began < 5


def test_a_flood_of_output_is_cut_while_it_comes() -> None:
    outcome = run("while True: print('x' * 10000)", Limits(seconds=5, output=50_000))
    assert outcome.status == "too much output"
    assert len(outcome.output) + len(outcome.errors) <= 50_000
    assert outcome.seconds < 4


def test_both_streams_share_the_bound_on_output() -> None:
    both = "import sys\nwhile True:\n    sys.stdout.write('o' * 100); sys.stderr.write('e' * 100)"
    outcome = run(both, Limits(seconds=5, output=10_000))
    assert outcome.status == "too much output"
    assert len(outcome.output) + len(outcome.errors) <= 10_000


def test_bytes_that_are_no_text_are_replaced() -> None:
    outcome = run("import os; os.write(1, bytes(range(256)))")
    assert outcome.status == "ok"
    assert "�" in outcome.output


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("x = 'a' * 10**9", "MemoryError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("input()", "EOFError"),
        ("print(", "SyntaxError"),
        ("x = 1\0", "null bytes"),
        ("x = '\udcff", ""),
        ("raise SystemExit(3)", ""),
    ],
)
def test_a_program_that_fails_says_why(program: str, error: str) -> None:
    outcome = run(program, AMPLE)
    assert outcome.status == "failed"
    assert error in outcome.errors


def test_a_crash_is_an_outcome() -> None:
    assert run("import ctypes; ctypes.string_at(0)", AMPLE).status == "killed"
    deep = "import sys; sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr([self])\nrepr(A())"
    assert run(deep, Limits(seconds=1)).status in ("killed", "failed", "timeout")


def test_a_program_sees_no_environment_and_an_empty_folder() -> None:
    os.environ["ISOFLOP_SECRET"] = "hunter2"
    try:
        outcome = run("import os; print(dict(os.environ), os.listdir('.'))")
    finally:
        del os.environ["ISOFLOP_SECRET"]
    assert outcome.output == "{} ['program.py']\n"


@LINUX
@pytest.mark.parametrize(
    "attempt",
    [
        "import os\nwhile True: os.fork()",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.killpg(0, 9)",
        "import socket; socket.socket()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import threading; threading.Thread(target=print).start()",
        "import os; os.setsid()",
        "import os; os.unlink('program.py')",
        "import os; os.chmod('program.py', 0o777)",
        "import os; os.mkdir('folder')",
        "open('program.py', 'w')",
        "open('../outside', 'w')",
        "import os; os.truncate('program.py', 0)",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "import ctypes, os\nif ctypes.CDLL(None).setuid(0): raise OSError",
    ],
)
def test_what_is_more_than_computing_is_refused(attempt: str) -> None:
    if sandbox.weaknesses():
        pytest.skip(f"this kernel lets programs {', '.join(sandbox.weaknesses())}")
    outcome = run(attempt, AMPLE)
    assert outcome.status == "failed", outcome
    assert "Error" in outcome.errors


@LINUX
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/1/cmdline", __file__, "/dev/mem"])
def test_files_of_the_machine_cannot_be_read(path: str) -> None:
    if "read files" in sandbox.weaknesses():
        pytest.skip("this kernel has no Landlock")
    assert run(f"print(open({path!r}, 'rb').read())", AMPLE).status == "failed"


@pytest.fixture
def unprotected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The sandbox as it is where the kernel protects nothing."""
    room = tmp_path / "isoflop" / "problems"
    room.mkdir(parents=True)
    room.joinpath("warden.py").write_text(Path(sandbox.__file__).with_name("warden.py").read_text())
    room.joinpath("confine.py").write_text("def confine(memory, seconds): pass")
    monkeypatch.setattr(sandbox, "PACKAGES", tmp_path)
    sandbox.dismiss_all()
    yield
    sandbox.dismiss_all()


@pytest.mark.usefixtures("unprotected")
def test_weaknesses_are_found_by_trying() -> None:
    assert set(sandbox.weaknesses.__wrapped__()) == set(sandbox.ATTEMPTS)


@pytest.mark.usefixtures("unprotected")
def test_where_nothing_is_protected_what_a_program_started_is_killed_and_its_warden_replaced(tmp_path: Path) -> None:
    outlives = tmp_path / "outlives"
    later = f"import os, time\nif not os.fork():\n    time.sleep(1)\n    open({str(outlives)!r}, 'w')"
    assert run(later, Limits(seconds=0.5)).status == "timeout"  # the child still holds the pipes
    assert run("import os; os.kill(os.getppid(), 9)").status == "killed"
    assert run("print(1)").output == "1\n"
    time.sleep(1.0)
    assert not outlives.exists()


def test_a_warden_ends_with_whoever_started_it() -> None:
    warden = sandbox.Warden()
    assert warden.process.stdin
    assert warden.process.stdout
    warden.process.stdin.close()
    assert warden.process.wait(timeout=10) == 0
    warden.process.stdout.close()


def test_limits_in_which_nothing_could_run_are_refused() -> None:
    for limits in ({"seconds": 0}, {"seconds": float("inf")}, {"memory": 1000}, {"output": 0}):
        with pytest.raises(ValueError, match="a program needs"):
            Limits(**limits)


def answer_of(filter_: list[tuple[int, int, int, int]], words: dict[int, int]) -> int:
    """What a filter answers to a call, by an interpreter of the few instructions that it uses."""
    at, loaded = 0, 0
    while True:
        code, yes, no, value = filter_[at]
        at += 1
        if code == LOAD:
            loaded = words[value]
        elif code == EQUAL:
            at += yes if loaded == value else no
        elif code == ANY_BIT:
            at += yes if loaded & value else no
        else:
            assert code == RETURN
            return value


@pytest.mark.parametrize("machine", list(CALLS))
def test_the_filter_allows_what_is_listed_and_reading_and_nothing_else(machine: str) -> None:
    architecture, allowed, opening = CALLS[machine]
    program = instructions(machine)
    for number in range(600):
        words = {4: architecture, NUMBER: number} | {16 + 8 * place: 0 for place in range(6)}
        reads = answer_of(program, words)
        assert reads == (ALLOW if number in {*allowed, *opening} else REFUSE), number
        if number in opening:
            for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_RDONLY | os.O_TRUNC):
                assert flag & WRITING
                assert answer_of(program, words | {16 + 8 * opening[number]: flag}) == REFUSE
    assert answer_of(program, {4: architecture ^ 1, NUMBER: 0}) not in (ALLOW, REFUSE)


def test_an_unknown_architecture_has_no_filter_and_is_told_of() -> None:
    assert instructions("vax") == []
