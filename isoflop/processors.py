"""How many processors this process may use: its affinity, and a container's quota."""

from __future__ import annotations

import os
from pathlib import Path


def processors() -> list[int]:
    """The processors to pin work to, as many as the affinity and the quota allow."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return mine[: max(1, quota())]


def quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole processors that a Linux container may keep busy; a large number where nothing is said."""
    try:
        limit, period = path.read_text().split()
        return 2**30 if limit == "max" else int(limit) // int(period)
    except (OSError, ValueError):
        return 2**30


def ranks_for(sequences: int) -> int:
    """Processes that share batches of at least ``sequences``: a power of two, so that shares are equal."""
    most = min(len(processors()), sequences)
    return 1 << (most.bit_length() - 1)
