"""Rows of JSON from files, plain or gzipped: a bad row is named and counted instead of ending an evaluation."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from isoflop.keys import derive_key

T = TypeVar("T")
Row = dict[str, Any]
BAD_SHARE = 0.01
"""The most rows that may be bad: more of them is another format."""


def read_rows(
    paths: Sequence[Path], parse: Callable[[Row], T], *, bad_share: float = BAD_SHARE
) -> tuple[list[T], list[str]]:
    """What ``parse`` makes of every row, and the rows that it refused, each as a sentence with its file and line.

    Empty lines are passed over. Raises ValueError where a file cannot be read, where more than ``bad_share`` of the
    rows are bad, or where there are none.
    """
    found: list[T] = []
    bad: list[str] = []
    for path in paths:
        for number, line in enumerate(lines_of(path), 1):
            if not line.strip():
                continue
            try:
                found.append(parse(object_of(line)))
            except (ValueError, TypeError, KeyError) as error:
                said = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
                bad.append(f"{path}:{number}: {said}")
    if len(bad) > bad_share * (len(found) + len(bad)):
        raise ValueError(f"{bad[0]} ({len(bad):,} of {len(found) + len(bad):,} rows are bad)")
    if not found:
        raise ValueError(f"there are no rows in {', '.join(map(str, paths)) or 'no file'}")
    return found, bad


def lines_of(path: Path) -> list[str]:
    """The lines of a file, of the one inside if its name ends in .gz; bytes that are no text become U+FFFD."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace").split("\n")
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def object_of(line: str) -> Row:
    """The JSON object on a line."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object but {type(row).__name__}")
    return row


def text_of(row: Row, key: str) -> str:
    """A row's text; a ValueError where it is something else."""
    if not isinstance(row[key], str):
        raise ValueError(f"{key!r} must be a text, not {row[key]!r}"[:200])
    return str(row[key])


def texts_of(row: Row, key: str) -> tuple[str, ...]:
    """A row's list of at least two texts."""
    texts = row[key]
    if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{key!r} must be a list of at least two texts, not {texts!r}"[:200])
    return tuple(texts)


def some(items: Sequence[T], limit: int | None, seed: int = 0) -> list[T]:
    """At most ``limit`` of the items, in their order: the same of any number of items, and not the first ones only."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise ValueError(f"a limit is at least one item, not {limit}")
    chosen = sorted(range(len(items)), key=lambda number: derive_key(seed, "some items", number))[:limit]
    return [items[number] for number in sorted(chosen)]
