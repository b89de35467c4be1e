"""Others' names for the fields of a row: ``prompt=question,answer=response`` says that ours is theirs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from isoflop.corpus.document import RecordError

Columns = Mapping[str, str]
"""Their names by ours; a dotted name looks inside an object."""


def parse(text: str, known: Iterable[str]) -> dict[str, str]:
    """``"prompt=question,answer=response"`` as a mapping; a ValueError where it is none, or ours is no name of ours."""
    found: dict[str, str] = {}
    names = sorted(known)
    for pair in filter(None, map(str.strip, text.split(","))):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not ours or not theirs:
            raise ValueError(f"columns are given as ours=theirs, such as prompt=question,answer=response, not {pair!r}")
        if ours not in names:
            raise ValueError(f"there is no field {ours!r}{nearest(ours, names)}")
        found[ours] = theirs
    return found


def renamed(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The row under our names; fields that are not spoken of keep theirs. A RecordError names what it lacks."""
    taken = {ours: _inside(row, theirs) for ours, theirs in columns.items()}
    return {name: value for name, value in row.items() if name not in columns.values()} | taken


def nearest(name: str, names: Iterable[str]) -> str:
    """What was meant, as the end of a sentence."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names) or 'none'}"


def _inside(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for part in [name] if name in row else name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            names = list(value) if isinstance(value, Mapping) else []
            raise RecordError(f"no column {name!r}{nearest(part, map(str, names))}")
        value = value[part]
    return value
