"""How many rows of cache fit into the memory that is free now, so that a batch is refused nothing when it is full.

Half of what is free is given to caches; prompts that wait, logits and the allocator's slack take of the rest.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from isoflop.inference.decoder import Decoder

SHARE = 0.5
CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken on a GPU, or by this process: what the system and a container's limit leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(system_memory(), container_memory())


def system_memory(path: Path = Path("/proc/meminfo")) -> int:
    """What Linux says is available; elsewhere half of all memory, or 2 GiB where nothing is known."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return 2 * 2**30
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE")) // 2


def container_memory(folder: Path = CGROUP) -> int:
    """What a Linux container's limit leaves; a very large number where there is none."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return 2**62 if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return 2**62


def row_bytes(decoder: Decoder, tokens: int) -> int:
    """Bytes of a cache's row of ``tokens`` tokens."""
    shape = decoder.shape
    return 2 * shape.layers * shape.kv_width * torch.finfo(decoder.dtype).bits // 8 * tokens


def rows_that_fit(decoder: Decoder, tokens: int, most: int = 64) -> int:
    """Rows of ``tokens`` tokens each, at least one and at most ``most``, that caches have room for."""
    return max(1, min(most, int(SHARE * free_memory(decoder.device)) // row_bytes(decoder, tokens)))
