"""A worker: trains one column of a sweep, run by run, in its own process.

Started as ``python -m isoflop.sweeps.worker SWEEP COLUMN``. It reads its runs' configs from the directory, so
nothing is passed but two names. SIGTERM makes it save and leave; so does the death of the process that started it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from isoflop.files import locked
from isoflop.interrupt import follow_parent
from isoflop.sweeps.executor import exit_status
from isoflop.sweeps.layout import laid_out


def main(sweep: Path, name: str) -> None:
    """Train the unfinished runs of the column called ``name``."""
    from isoflop.training.loop import train

    column = next(c for c in laid_out(sweep) if c.name == name)
    with locked(sweep / name / ".lock"):
        for run, settings in column.runs:
            train(settings, sweep / run)


if __name__ == "__main__":
    follow_parent()
    sys.exit(exit_status(sys.argv[2], lambda: main(Path(sys.argv[1]), sys.argv[2])))
