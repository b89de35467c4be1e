"""Tables as text: aligned columns anywhere, folded to the width of a terminal, whole lines with tabs in a pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows, indent: str = "  ") -> str:
    """Columns of equal width, flush left, two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def show(head: Sequence[str], rows: Rows) -> None:
    """Print a table: folded to fit a terminal; elsewhere a line a row with tabs between, for grep and cut."""
    if sys.stdout.isatty():
        _fold(head, rows)
    else:
        print("\n".join("\t".join(row) for row in rows))


def show_stacked(rows: Rows) -> None:
    """Print a table of long texts: on a terminal the first column beside the others one below the other."""
    if sys.stdout.isatty():
        _fold((), [(row[0], "\n".join(row[1:]) + "\n") for row in rows])
    else:
        show((), rows)


def _fold(head: Sequence[str], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=bool(head))
    for i, name in enumerate(head or rows[0]):
        table.add_column(name if head else "", overflow="fold", no_wrap=i == 0 and not head)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def left_out(read: Mapping[str, Any]) -> str:
    """What a reading could not use, in words; "" where it used everything."""
    counts = {"bad": "bad record", "damaged": "damaged file", "links": "link out of the folder"}
    found = [(read.get(name, 0), noun) for name, noun in counts.items()]
    return ", ".join(f"{count:,} {noun}{'s' if count > 1 else ''}" for count, noun in found if count)


def plain(value: Any) -> Any:
    """A result as JSON can hold it: null where a number is not finite, lists for arrays and tuples."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
