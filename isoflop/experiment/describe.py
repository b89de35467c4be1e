"""An experiment in words, before anything is spent."""

from __future__ import annotations

from isoflop.experiment.settings import Experiment
from isoflop.planning.shape import human
from isoflop.progress import spoken
from isoflop.sweeps.grid import columns, run_flops


def describe(experiment: Experiment) -> str:
    """The sweep's columns, the flagship's budget, and the time expected."""
    sweep = experiment.sweep
    flops = sum(run_flops(config) for column in columns(sweep) for _, config in column.runs)
    lines = [
        f"corpus     {experiment.prepare.corpus} (at most {experiment.prepare.max_bytes or 0:,} bytes), "
        f"vocabulary {sweep.vocab:,}, context {sweep.context}",
        f"sweep      {len(sweep.budgets)} budgets from {sweep.budgets[0]:.3g} to {sweep.budgets[-1]:.3g} FLOPs, "
        f"{flops:.3g} FLOPs in all",
    ]
    for column in sorted(columns(sweep), key=lambda c: c.shape.matmul):
        cells = ", ".join(name.split("/")[1] for name, _ in column.runs if not name.endswith("trunk"))
        lines.append(f"           {column.shape.name:<16} {cells}")
    lines += [
        f"flagship   {experiment.budget:.3g} FLOPs: about {human((experiment.budget / 6 / sweep.centre) ** 0.5)} "
        f"parameters, the sweep will say",
        f"time       about {spoken(experiment.expected_seconds)} on this machine",
    ]
    return "\n".join(lines)
