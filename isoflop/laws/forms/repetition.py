"""Training on data seen more than once: how much a repeated token, and a parameter too many for the data, is worth.

Evaluation is direct; the questions are answered by the general searches of :mod:`.surface` for a given amount of
unique data (milliseconds each). The decay saturates, so with U unique tokens some losses are out of reach of any
compute. Left out: overfitting, which makes the loss rise again after tens of epochs; this law only flattens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .chinchilla import Chinchilla
from .law import BLANK, Array, Law, Values, positive
from .surface import Allocation, LossSurface


@dataclass(frozen=True, repr=False)
class DataConstrained(Law, kind="data-constrained"):
    """L(N, D, U) = E + A/N'^α + B/D'^β, for D tokens of which U are unique, in nats per token.

    D' = u + u·R_D·(1 − exp(−(D/u − 1)/R_D)) with u = min(U, D) counts a token's repeats for less and less; N' does
    the same to parameters beyond those for which u tokens are compute-optimal, with R_N. Source: Muennighoff et al.
    2023, "Scaling Data-Constrained Language Models", equations 5 and 6, where the constants are R_D* and R_N*.
    """

    E: float = BLANK
    A: float = BLANK
    alpha: float = BLANK
    B: float = BLANK
    beta: float = BLANK
    R_D: float = BLANK
    R_N: float = BLANK
    formula = "L = {E} + {A}/N'^{alpha} + {B}/D'^{beta}, decaying with R_D = {R_D}, R_N = {R_N}"

    def chinchilla(self) -> Chinchilla:
        """Give the law of data that is never repeated, at or below its compute-optimal size."""
        return Chinchilla(self.E, self.A, self.alpha, self.B, self.beta)

    def at(self, U: float) -> DataConstrainedSurface:
        """Give the surface L(N, D) for U unique tokens, of which every general question can be asked."""
        return DataConstrainedSurface(**self.parameters(), U=float(positive("U", U)))

    def loss(self, N: ArrayLike, D: ArrayLike, U: ArrayLike) -> Values:
        """Evaluate the loss of N parameters on D tokens, U of them unique; the three broadcast."""
        return self.chinchilla().loss(self.effective_params(N, D, U), self.effective_tokens(D, U))

    def slopes(self, N: ArrayLike, D: ArrayLike, U: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D at a fixed U."""
        n, d, u = np.asarray(N, float), np.asarray(D, float), np.minimum(U, D)
        matched = self.matched(u)
        useful = np.minimum(n, matched)
        decay = np.exp(-(n / useful - 1) / self.R_N)
        # While D is below U, more tokens also raise the size up to which parameters count in full.
        follows = np.where((d < U) & (n > matched), self.beta / self.alpha * matched / d, 0.0)
        raised = follows * (1 + self.R_N * (1 - decay) - n / useful * decay)
        by_size, by_tokens = self.chinchilla().slopes(self.effective_params(n, d, U), self.effective_tokens(d, U))
        return by_size * decay, by_tokens * np.exp(-(d / u - 1) / self.R_D) + by_size * raised

    def effective_tokens(self, D: ArrayLike, U: ArrayLike) -> Values:
        """D': the unique tokens that would teach as much as D tokens of which U are unique."""
        d = np.asarray(D, float)
        return decayed(d, np.minimum(U, d), self.R_D)

    def effective_params(self, N: ArrayLike, D: ArrayLike, U: ArrayLike) -> Values:
        """N': the parameters that count, when D tokens of which U are unique have to feed them."""
        n = np.asarray(N, float)
        return decayed(n, np.minimum(n, self.matched(np.minimum(U, np.asarray(D, float)))), self.R_N)

    def worth(self, epochs: ArrayLike) -> Values:
        """The corpora of fresh text that so many epochs over one are worth: 1 for one, at most 1 + R_D."""
        passes = np.asarray(epochs, float)
        return decayed(passes, np.minimum(passes, 1.0), self.R_D)

    def optimal(self, C: float, U: float) -> Allocation:
        """Spend C FLOPs for the lowest loss with U unique tokens, under C = 6ND. Raises ValueError as for surfaces."""
        return self.at(U).optimal(C)

    def tokens_for(self, loss: float, N: float, U: float) -> float:
        """Tokens, repeats counted, on which N parameters reach ``loss``; infinite where no repetition is enough."""
        return self.at(U).tokens_for(loss, N)

    def params_for(self, loss: float, D: float, U: float) -> float:
        """Parameters that reach ``loss`` on D tokens; infinite where no size is enough."""
        return self.at(U).params_for(loss, D)

    def compute_for(self, loss: float, N: float, U: float) -> float:
        """FLOPs that bring N parameters to ``loss`` (C = 6ND); infinite where none do."""
        return self.at(U).compute_for(loss, N)

    def cheapest(self, loss: float, U: float) -> Allocation:
        """Reach ``loss`` with the least compute. Raises ValueError when U unique tokens do not allow it."""
        return self.at(U).cheapest(loss)

    def matched(self, u: Values) -> Array:
        """Give the size for which u tokens are compute-optimal."""
        G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return np.asarray(G * (u * G) ** (self.beta / self.alpha))


@dataclass(frozen=True, repr=False)
class DataConstrainedSurface(LossSurface, kind="data-constrained-surface"):
    """A :class:`DataConstrained` law for one amount of unique data, U tokens."""

    E: float = BLANK
    A: float = BLANK
    alpha: float = BLANK
    B: float = BLANK
    beta: float = BLANK
    R_D: float = BLANK
    R_N: float = BLANK
    U: float = BLANK
    formula = f"{DataConstrained.formula}, U = {{U}}"

    def law(self) -> DataConstrained:
        """Give the law for any amount of unique data."""
        return DataConstrained(self.E, self.A, self.alpha, self.B, self.beta, self.R_D, self.R_N)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens, repeats counted; N and D broadcast."""
        return self.law().loss(N, D, self.U)

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D."""
        return self.law().slopes(N, D, self.U)


def decayed(amount: Array, full: Array, rate: float | Array) -> Array:
    """Count ``full`` of the amount for full and the rest, in multiples of ``full``, for exponentially less."""
    return np.asarray(full * (1 - rate * np.expm1(-(amount / full - 1) / rate)))


MUENNIGHOFF_2023 = published(
    "MUENNIGHOFF_2023",
    DataConstrained(
        E=math.exp(0.6254804),
        A=math.exp(6.255414),
        alpha=0.3526596,
        B=math.exp(7.3049974),
        beta=0.3526596,
        R_D=15.387756,
        R_N=5.309743,
    ),
    source="Muennighoff et al. 2023, arXiv 2305.16264 (unrounded, from its code)",
    meaning="N with embeddings, D tokens seen and U unique ones, loss of models trained on C4",
    counts="total",
    verified=True,
    note="R_D is barely determined: from 15 to 300 the objective changes by .25%, and its minimum lies near R_D = 95, "
    "R_N = 1.7; the other five were held",
)
