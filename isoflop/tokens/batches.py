"""Texts in batches worth encoding at once: large enough for all cores and the faster engine, small in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

K = TypeVar("K")

CHARACTERS = 2 << 20


def batches(texts: Iterable[tuple[K, str]]) -> Iterator[list[tuple[K, str]]]:
    """Texts with whatever names them, in their order; a batch ends with the text that makes it ``CHARACTERS`` long."""
    batch: list[tuple[K, str]] = []
    size = 0
    for name, text in texts:
        batch.append((name, text))
        size += len(text)
        if size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
