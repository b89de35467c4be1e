"""A worker: trains and measures every n-th proxy of a search, in its own process.

Started as ``python -m isoflop.mixing.worker FOLDER LANE``, a lane being called "k-of-n". All proxies have one shape, so
one compiled graph serves the lane. SIGTERM makes it save and leave; so does the death of the process that started it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from isoflop import config as configuration
from isoflop.interrupt import follow_parent
from isoflop.mixing.layout import CONFIG, proxies
from isoflop.mixing.settings import MixConfig
from isoflop.sweeps.executor import exit_status


def main(folder: Path, lane: str) -> None:
    """Train and measure the proxies of ``lane`` that are not done."""
    from isoflop.mixing.measure import measure
    from isoflop.training.loop import train

    config = configuration.load(MixConfig, folder / CONFIG)
    first, step = map(int, lane.split("-of-"))
    for proxy in proxies(folder)[first::step]:
        if proxy.losses is None:
            train(proxy.run.config, proxy.run.path)
            measure(config, folder, proxy.run)


if __name__ == "__main__":
    follow_parent()
    sys.exit(exit_status(sys.argv[2], lambda: main(Path(sys.argv[1]), sys.argv[2])))
