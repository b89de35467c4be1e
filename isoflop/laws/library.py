"""The library of published laws: every named constant with its source, its conventions, and whether it was checked.

A constant is declared beside its form with :func:`published`, which files it here, and is the same value that a fit
produces. ``isoflop laws`` prints this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from .forms.law import Law

L = TypeVar("L", bound=Law)


@dataclass(frozen=True)
class Entry:
    """One published law.

    ``meaning`` says which N, D and C it is about and on which data the loss was taken. ``verified`` is whether the
    numbers were read in the primary source or recomputed from its data, rather than taken from others' texts.
    """

    name: str
    law: Law
    source: str
    meaning: str
    verified: bool
    note: str


LIBRARY: dict[str, Entry] = {}


def published(name: str, law: L, *, source: str, meaning: str, verified: bool, note: str = "") -> L:
    """File a published law under its name and return it."""
    assert name not in LIBRARY
    LIBRARY[name] = Entry(name, law, source, meaning, verified, note)
    return law
