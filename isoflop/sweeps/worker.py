"""A worker: trains one column of a sweep, run by run, in its own process.

Started as ``python -m isoflop.sweeps.worker SWEEP COLUMN``. It reads the sweep's config from the directory, so nothing
is passed but two names. SIGTERM makes it save and leave; so does the death of the process that started it.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path

from isoflop import config as configuration
from isoflop.sweeps.grid import SweepConfig, columns
from isoflop.tokens.files import locked
from isoflop.training.interrupt import Interrupted

INTERRUPTED = 75  # the shell's EX_TEMPFAIL: nothing is wrong, run it again


def follow_parent() -> None:
    """Ask Linux for a SIGTERM when the parent dies, so that no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def main(sweep: Path, name: str) -> int:
    """Train the unfinished runs of the column called ``name``; returns the exit status."""
    from isoflop.training.loop import train

    config = configuration.load(SweepConfig, sweep / "sweep.toml")
    column = next(c for c in columns(config) if c.shape.name == name)
    (sweep / name).mkdir(exist_ok=True)
    try:
        with locked(sweep / name / ".lock"):
            for run, settings in column.runs:
                train(settings, sweep / run)
    except Interrupted:
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    follow_parent()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
