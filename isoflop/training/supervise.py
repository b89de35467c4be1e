"""Starting a run again whenever its process is killed or hangs, from a supervisor that has everything imported.

Every attempt is a fork of the supervisor, which itself computes nothing, so that it starts in milliseconds where a new
interpreter needs seconds for its imports. An attempt that ends with an error said in a sentence is not repeated: the
next would end the same. One that is killed again and again without getting further ends the supervision too.
Left out: a machine that dies, which is for whoever starts the supervisor to notice (torchrun, Slurm's requeue).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isoflop.interrupt import INTERRUPTED, Interrupted, follow_parent, interruptible
from isoflop.training.attempts import last_start
from isoflop.training.launch import Died
from isoflop.training.run import Run
from isoflop.training.watchdog import HUNG

WARM = ("torch._dynamo", "numpy.ctypeslib", "numpy.ma")
"""What every attempt would import besides: torch's optimisers load the first, numpy the others, when first used."""


def supervise(path: Path, work: Callable[[], object], patience: int = 5) -> dict[str, Any]:
    """Do ``work``, which trains the run in directory ``path``, in one process after another until the run is finished.

    Returns its summary. Raises Interrupted when it was stopped after saving, RuntimeError when ``work`` failed (it has
    said why on standard error) or when ``patience`` attempts in a row die and none begins further on than the last.
    """
    run, futile, before = Run(path), 0, None
    for name in WARM:
        importlib.import_module(name)
    while (summary := run.summary) is None:
        status = forked(work)
        if status == INTERRUPTED:
            raise Interrupted(f"stopped at {run.tokens_so_far():,} tokens; the same command goes on from there")
        if status >= 0 and status != HUNG and run.summary is None:
            raise RuntimeError(f"training {path} failed; the reason is above")
        began = last_start(path)
        futile, before = (futile + 1 if began == before else 1), began
        if futile == patience:
            raise RuntimeError(
                f"training {path} {ended(status)} {patience} times in a row without reaching its next checkpoint; "
                f"make checkpoint_seconds shorter, or look at {path} for the cause"
            )
        if run.summary is None:
            print(f"isoflop: the run {ended(status)}; going on from its last checkpoint", file=sys.stderr, flush=True)
    return summary


def ended(status: int) -> str:
    """How a process with this exit status ended, in words."""
    return (
        "hung or lost a process"
        if status == HUNG
        else f"was ended by {signal.Signals(-status).name}"
        if status < 0
        else "ended"
    )


def forked(work: Callable[[], object]) -> int:
    """Do ``work`` in a fork of this process; returns its exit status, a signal's number negative.

    SIGTERM and Ctrl-C are handed on, once and as SIGTERM; a second one kills it. It ends with this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os._exit(alone(work))
    told = False
    with interruptible() as stopped:
        try:
            while True:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status)
                if stopped() and not told:
                    os.kill(child, signal.SIGTERM)
                    told = True
                time.sleep(0.005)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise


def alone(work: Callable[[], object]) -> int:
    """Do ``work`` as a process of its own, with signals as at its start; its exit status, 1 after a sentence."""
    os.setsid()  # Ctrl-C is the supervisor's to hand on
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    follow_parent()
    try:
        work()
    except Interrupted:
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
        print(f"isoflop: {error}", file=sys.stderr, flush=True)
        return HUNG if isinstance(error, Died) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
