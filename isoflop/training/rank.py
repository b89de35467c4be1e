"""One process of a data-parallel run: ``python -m isoflop.training.rank RUN``, started by ``training.launch``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from isoflop.interrupt import INTERRUPTED, Interrupted, follow_parent
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.sinks import SinkName, sink_names

ACCEPT = "--accept-changed-data"
LOG_TO = "--log-to="
FAILED = "isoflop: failed: "
"""What a rank's last words begin with, so that whoever started it can tell them from warnings."""


def main(path: Path, *, accept_changed_data: bool, log_to: Sequence[SinkName]) -> int:
    """Train the run as this rank; returns the exit status."""
    return exit_status(lambda: train(Run(path).config, path, accept_changed_data=accept_changed_data, log_to=log_to))


def exit_status(work: Callable[[], object]) -> int:
    """Do a rank's work; the status that it ends with, after a sentence for whoever started it where that is 1."""
    try:
        work()
    except Interrupted:
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
        print(f"{FAILED}{error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    follow_parent()
    sinks = sink_names([word.removeprefix(LOG_TO) for word in sys.argv[2:] if word.startswith(LOG_TO)])
    sys.exit(main(Path(sys.argv[1]), accept_changed_data=ACCEPT in sys.argv[2:], log_to=sinks))
