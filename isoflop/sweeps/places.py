"""Where the workers of a sweep or a search are hired, as a user says it."""

from __future__ import annotations

import shlex

from isoflop.sweeps.executor import Hire, Pool


def hiring(place: str) -> Hire:
    """``local``; ``ray`` or ``ray ADDRESS``; ``slurm`` or ``slurm OPTIONS``, which are sbatch's.

    Raises ValueError for anything else.
    """
    kind, *rest = shlex.split(place) or [""]
    if kind == "local" and not rest:
        return Pool.here
    if kind == "ray" and len(rest) <= 1:
        from isoflop.sweeps.ray_workers import RayWorkers

        return RayWorkers.at(*rest)
    if kind == "slurm":
        from isoflop.sweeps.slurm import SlurmArray

        return SlurmArray.using(rest)
    raise ValueError(
        f"workers are hired on local, ray, 'ray ADDRESS', slurm or 'slurm OPTIONS' (of sbatch), not on {place!r}"
    )
