"""The library of published laws: every named constant with its source, its conventions, and whether it was checked.

A constant is declared beside its form with :func:`published`, which files it here, and is the same value that a fit
produces. Where the runs behind a law are public, their bootstrap's covariance stands beside it, so that a published
law can be asked for intervals like a fitted one. ``isoflop laws`` prints this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from .forms.law import Law

L = TypeVar("L", bound=Law)

Counts = Literal["total", "matmul", "body"]
"""Which parameters a law's N counts: all; without the input embedding; without embedding and output head."""


@dataclass(frozen=True)
class Uncertainty:
    """How well a law's parameters are known together, as a normal distribution about their values.

    ``covariance`` is in the order of the law's fields, with the logarithm of those named in ``logs``: coefficients
    and exponents are all but collinear, and so their errors stay on the ridge. ``residual_sd`` is the scatter of one
    run's log loss about the law, None for a law of something else. ``source`` says what it was computed from.
    """

    covariance: tuple[tuple[float, ...], ...]
    logs: tuple[str, ...]
    source: str
    residual_sd: float | None = None


@dataclass(frozen=True)
class Entry:
    """One published law.

    ``meaning`` says which N, D and C it is about and on which data the loss was taken; ``counts`` says the first for
    programs, None where the law has no N. ``verified`` is whether the numbers were read in the primary source or
    recomputed from its data, rather than taken from others' texts.
    """

    name: str
    law: Law
    source: str
    meaning: str
    verified: bool
    note: str
    counts: Counts | None = None
    uncertainty: Uncertainty | None = None

    def draw(self, count: int, seed: int = 0) -> list[Law]:
        """Draw laws from the joint uncertainty of the parameters. Raises ValueError where none is known."""
        if self.uncertainty is None:
            raise ValueError(f"no joint uncertainty is known of {self.name}: its runs are not public, or not analysed")
        names = list(self.law.parameters())
        logged = np.array([name in self.uncertainty.logs for name in names])
        values = np.array(list(self.law.parameters().values()))
        centre = np.where(logged, np.log(np.where(logged, values, 1.0)), values)
        rng = np.random.default_rng([seed, count])
        drawn = rng.multivariate_normal(centre, np.array(self.uncertainty.covariance), count, method="eigh")
        drawn = np.where(logged, np.exp(drawn), drawn)
        return [type(self.law)(**dict(zip(names, row.tolist(), strict=True))) for row in drawn]


LIBRARY: dict[str, Entry] = {}


def published(
    name: str,
    law: L,
    *,
    source: str,
    meaning: str,
    verified: bool,
    note: str = "",
    counts: Counts | None = None,
    uncertainty: Uncertainty | None = None,
) -> L:
    """File a published law under its name and return it."""
    assert name not in LIBRARY
    LIBRARY[name] = Entry(name, law, source, meaning, verified, note, counts, uncertainty)
    return law
