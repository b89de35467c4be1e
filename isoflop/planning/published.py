"""What published laws say of a budget, side by side: the answer before any run of one's own.

Every law of the library that is one of N and D, and Llama 3's D*(C), is read at the same FLOPs. They were fitted to
other corpora, tokenizers and conventions of N, so their losses are not to be compared with each other or with yours,
and their spread is the honest interval: a single published point has none. Instant: no fit is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isoflop.laws import LIBRARY, LLAMA3_TOKENS, LossSurface
from isoflop.planning.shape import human

FLOPS = 6.0
SENSIBLE = (1e12, 1e30)  # budgets at which a published law may still mean something


@dataclass(frozen=True)
class PublishedReading:
    """One law's optimum for a budget; ``loss`` is None for a law that says none."""

    name: str
    N: float
    D: float
    loss: float | None
    meaning: str
    verified: bool

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"{self.loss:.3f}"
        mark = "" if self.verified else "  (constants not verified)"
        sizes = f"{human(self.N):>9} {human(self.D):>9} {self.D / self.N:>9.1f} {loss:>7}"
        return f"{self.name:<26}{sizes}  {self.meaning}{mark}"


def published_readings(budget: float) -> list[PublishedReading]:
    """Read the library at ``budget`` FLOPs (6ND), in the library's order. Raises ValueError unless it is positive."""
    if not budget > 0:
        raise ValueError(f"the budget is {budget}; give a positive number of FLOPs")
    if not SENSIBLE[0] <= budget <= SENSIBLE[1]:
        raise ValueError(
            f"{budget:.3g} FLOPs is far outside what any published law saw ({SENSIBLE[0]:g} to {SENSIBLE[1]:g})"
        )
    return list(_readings(budget))


def _readings(budget: float) -> Iterator[PublishedReading]:
    for name, entry in LIBRARY.items():
        if isinstance(entry.law, LossSurface):
            best = entry.law.optimal(budget)
            yield PublishedReading(name, best.N, best.D, best.loss, entry.meaning, entry.verified)
        elif entry.law is LLAMA3_TOKENS:
            D = float(LLAMA3_TOKENS(budget))
            yield PublishedReading(name, budget / FLOPS / D, D, None, entry.meaning, entry.verified)


def table(budget: float) -> str:
    """The readings as text."""
    head = f"{'published law':<26}{'N':>9} {'D':>9} {'D/N':>9} {'loss':>7}  N and C as in the source"
    return "\n".join([f"at C = {budget:.4g} FLOPs", head, *map(str, published_readings(budget))])
