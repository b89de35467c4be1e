"""Predicted against measured seconds of training steps: this machine after one calibration, on other configurations.

The configurations are none of those that calibration timed; each is trained eagerly and, where a compiler is there,
compiled, as ``isoflop train`` would (on a CPU in a one-thread process per processor), and the median step counts. Run
it alone on the machine. With ``--published`` nothing is measured: published runs stand beside what the roofline says.

    python benchmarks/throughput.py [--machine PATH] [--seconds 5]
    python benchmarks/throughput.py --published
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

from isoflop.planning.machine import Machine, machine, remembered
from isoflop.planning.published_speeds import table
from isoflop.processors import processors
from isoflop.training.calibrate import Probe, here, time_steps
from isoflop.training.hardware import device_for
from isoflop.training.launch import together
from isoflop.training.ranks import Ranks

HELD_OUT = (
    Probe(1e5, 512, 256, 4),
    Probe(5e5, 2048, 128, 64),
    Probe(1e6, 1024, 2048, 1),
    Probe(3e6, 512, 512, 4, 2),
    Probe(5e6, 16_384, 256, 16),
    Probe(1.2e7, 8192, 1024, 2),
    Probe(3e7, 32_000, 512, 2),
    Probe(1e8, 32_000, 256, 8),
)


def compare(found: Machine, probe: Probe, seconds: float, ranks: Ranks, *, compiled: bool) -> float:
    """Time one configuration, tell it beside its prediction, and return predicted over measured, less one."""
    device = device_for("auto")
    timing = time_steps(probe.shape, probe.rows, probe.micro, device, ranks, compiled=compiled, seconds=seconds)
    step = found.predict(timing)
    error = step.seconds / timing.seconds - 1
    tell(
        ranks,
        f"{timing.shape.name:<16} {probe.vocab:>6} {probe.context:>7} {probe.rows:>3} × {probe.micro} "
        f"{step.seconds * 1e3:>8.1f} ms {timing.seconds * 1e3:>8.1f} ms {error:>+8.0%}  "
        f"{'compiled' if compiled else 'eager'}, first step {timing.first:.1f} s more; {step.bound}",
    )
    return error


def tell(ranks: Ranks, line: object) -> None:
    """Print once, whatever the number of ranks."""
    if ranks.leads:
        print(line, flush=True)


def held_out(found: Machine, seconds: float) -> None:
    """Compare every configuration, both ways where both are possible, and sum up."""
    ranks = Ranks.join(device_for("auto"))
    tell(ranks, found)
    head = f"{'model':<16} {'vocab':>6} {'context':>7} {'rows':>7} {'predicted':>11} {'measured':>11} {'differs':>8}"
    tell(ranks, head)
    for compiled in (False, True) if found.compiled is not None else (False,):
        errors = [abs(compare(found, probe, seconds, ranks, compiled=compiled)) for probe in HELD_OUT]
        middle, largest = statistics.median(errors), max(errors)
        tell(ranks, f"{'compiled' if compiled else 'eager'}: median difference {middle:.0%}, largest {largest:.0%}")


def known(path: Path | None) -> Machine | None:
    """The calibration; a rank, which is pinned to one processor, believes that the process that started it looked."""
    return Machine.load(path or remembered()) if "RANK" in os.environ else machine(path)


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true", help="compare with published runs, measure nothing")
    parser.add_argument("--machine", type=Path, help="a calibration's file; by default the remembered one")
    parser.add_argument("--seconds", type=float, default=5.0, help="timed steps of a configuration")
    a = parser.parse_args()
    if a.published:
        print(table())
    elif (found := known(a.machine)) is None:
        parser.error("this machine was not measured yet: python -m isoflop.training.calibrate")
    elif (count := here()) > 1:
        sys.exit(together([sys.executable, *sys.argv], processors()[:count]))
    else:
        held_out(found, a.seconds)


if __name__ == "__main__":
    main()
