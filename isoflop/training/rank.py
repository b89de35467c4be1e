"""One process of a data-parallel run: ``python -m isoflop.training.rank RUN``, started by ``training.ranks``."""

from __future__ import annotations

import sys
from pathlib import Path

from isoflop.interrupt import INTERRUPTED, Interrupted, follow_parent
from isoflop.training.loop import train
from isoflop.training.run import Run


def main(path: Path) -> int:
    """Train the run as this rank; returns the exit status."""
    try:
        train(Run(path).config, path)
    except Interrupted:
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
        print(f"isoflop: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    follow_parent()
    sys.exit(main(Path(sys.argv[1])))
