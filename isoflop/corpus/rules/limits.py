"""A rule as a figure and the limits that it must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Verdict


class Limit(NamedTuple):
    """What is measured of a document, how much of it there is, and how much there may be, both ends included."""

    reason: str
    figure: float
    low: float = -math.inf
    high: float = math.inf


def within(document: Document, limits: Iterable[Limit]) -> Verdict:
    """The document, or the first limit that it does not keep; later ones are then never measured."""
    for reason, figure, low, high in limits:
        if figure < low:
            return Dropped(document, f"too low: {reason}", f"{figure:.4g} < {low:g}")
        if figure > high:
            return Dropped(document, f"too high: {reason}", f"{figure:.4g} > {high:g}")
    return document
