"""Writing safetensors one tensor at a time: the header is known before the first byte of data.

The library's own writer wants all tensors at once, which for a 70B model is all the memory there is. Here each is read,
cast and written before the next one is read, so that the cost is one tensor, whatever the model. The format is an
eight-byte length, a JSON header of names, types, shapes and offsets, and the data end to end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from isoflop.model.source import TYPES

CODES = {dtype: code for code, dtype in TYPES.items()}
ALIGNMENT = 8


class Entry(NamedTuple):
    """One tensor of a file to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


def shards(entries: Sequence[Entry], limit: int) -> list[list[Entry]]:
    """Entries in files of at most ``limit`` bytes of data each, in order; a larger tensor has a file to itself."""
    files: list[list[Entry]] = [[]]
    for entry in entries:
        if files[-1] and sum(other.bytes for other in files[-1]) + entry.bytes > limit:
            files.append([])
        files[-1].append(entry)
    return files


def write_safetensors(
    path: Path, entries: Sequence[Entry], read: Callable[[str], Tensor], told: Callable[[int], None]
) -> None:
    """Write the entries, reading each when its turn comes; ``told`` is called with the bytes of each."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + entry.bytes
        header[entry.name] = {"dtype": CODES[entry.dtype], "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            write_tensor(file, entry, read(entry.name))
            told(entry.bytes)


def write_tensor(file: BinaryIO, entry: Entry, tensor: Tensor) -> None:
    """Append one tensor's bytes, cast to the entry's type."""
    assert tuple(tensor.shape) == entry.shape, f"{entry.name} is {tuple(tensor.shape)}, not {entry.shape}"
    data = tensor.to(device="cpu", dtype=entry.dtype).contiguous()
    file.write(data.reshape(-1).view(torch.uint8).numpy().data)
