"""Checkpoints in memory, between those on the disk: what survives the process, though not the machine.

Most of what ends a process leaves its machine running, and a folder on a file system in memory (/dev/shm) with it; a
checkpoint there costs a copy instead of a disk's time, so there can be one a second. It is written, checked and read
like any other. Wang et al. 2023 (Gemini, SOSP) keep checkpoints in hosts' memory for the same reason; sending them to
another host as well, as they do, is left out. It goes once a newer one is on the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from isoflop.keys import derive_key
from isoflop.training import checkpoint
from isoflop.training.ranks import Ranks


def scratch_of(run: Path, folder: str, ranks: Ranks) -> Path | None:
    """Where in ``folder`` this run's checkpoints in memory are; None without a folder, or on several machines.

    The name is of this very directory: a run that is started anew in the same place does not find its predecessor's.
    """
    if not folder or int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count)) < ranks.count:
        return None
    config = run / "config.toml"
    identity = derive_key(config.stat().st_mtime_ns, str(config.resolve()), os.getuid() if os.name == "posix" else 0)
    return Path(folder) / f"isoflop-{identity:016x}"


def newest(run: Path, scratch: Path | None) -> Path | None:
    """The newest checkpoint of a run, on the disk or in memory."""
    found = (checkpoint.latest(place) for place in (run, scratch) if place is not None)
    return max((path for path in found if path is not None), key=lambda path: int(path.name), default=None)
