"""The Chinchilla surface, whose questions have closed answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import Uncertainty, published
from .law import BLANK, Array, Values, positive
from .surface import FLOPS, Allocation, LossSurface


@dataclass(frozen=True, repr=False)
class Chinchilla(LossSurface, kind="chinchilla"):
    """L(N, D) = E + A/N^α + B/D^β, in nats per token.

    E is the entropy of the data, the second term what a larger model and the third what more tokens would
    remove. Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", equation 2.
    """

    E: float = BLANK
    A: float = BLANK
    alpha: float = BLANK
    B: float = BLANK
    beta: float = BLANK
    formula = "L = {E} + {A}/N^{alpha} + {B}/D^{beta}"

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens; N and D broadcast."""
        return self.E + self.A * np.asarray(N, float) ** -self.alpha + self.B * np.asarray(D, float) ** -self.beta

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D."""
        n, d = np.asarray(N, float), np.asarray(D, float)
        return -self.alpha * self.A * n ** (-self.alpha - 1), -self.beta * self.B * d ** (-self.beta - 1)

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss, under C = 6ND (Hoffmann et al. 2022, equation 4).

        Raises ValueError for a budget that is not positive, and for a law with no optimum inside (a
        coefficient or exponent that is zero or negative: one side is then free).
        """
        positive("the budget C", C)
        if not min(self.A, self.B, self.alpha, self.beta) > 0:
            raise ValueError(f"{self} has no compute-optimal point: A, B, α and β must all be positive")
        N, D = (float(column[0]) for column in compute_optimal(np.array([[*self.parameters().values()]]), C))
        return Allocation(N=N, D=D, C=C, loss=float(self.loss(N, D)))

    def tokens_for(self, loss: float, N: float) -> float:
        """Tokens on which N parameters reach ``loss``; infinite where no number of tokens is enough."""
        return _solve(loss - self.E - self.A * float(positive("N", N)) ** -self.alpha, self.B, self.beta)

    def params_for(self, loss: float, D: float) -> float:
        """Parameters that reach ``loss`` on D tokens; infinite where no size is enough."""
        return _solve(loss - self.E - self.B * float(positive("D", D)) ** -self.beta, self.A, self.alpha)

    def cheapest(self, loss: float) -> Allocation:
        """Reach ``loss`` with the least compute. Raises ValueError for a loss at or below E."""
        if not loss > self.E:
            raise ValueError(f"no budget reaches a loss of {loss}: the floor of {self} is {self.E:.6g}")
        # At the optimum αA/N^α = βB/D^β, so the two terms share the excess over E as β to α.
        excess, total = loss - self.E, self.alpha + self.beta
        N = _solve(excess * self.beta / total, self.A, self.alpha)
        D = _solve(excess * self.alpha / total, self.B, self.beta)
        return Allocation(N=N, D=D, C=FLOPS * N * D, loss=loss)


def compute_optimal(laws: Array, C: float) -> tuple[Array, Array]:
    """Return the N and D of lowest L under C = 6ND, for each row E, A, alpha, B, beta of laws (batch, 5)."""
    _, A, alpha, B, beta = laws.T
    log_G = np.log(alpha * A / (beta * B)) / (alpha + beta)
    # A bootstrap draw of nearly free N or D has its optimum beyond all numbers: say so with a huge one.
    N: Array = np.exp(np.clip(log_G + beta / (alpha + beta) * np.log(C / FLOPS), -140, 140))
    return N, C / FLOPS / N


def _solve(term: float, coefficient: float, exponent: float) -> float:
    """Solve coefficient/x^exponent = term for x; infinite where the term must vanish."""
    return math.exp(min(math.log(coefficient / term) / exponent, 700.0)) if term > 0 else math.inf


HOFFMANN_2022 = published(
    "HOFFMANN_2022",
    Chinchilla(E=math.exp(0.5267228), A=math.exp(6.0073404), alpha=0.33917084, B=math.exp(6.0179186), beta=0.2849083),
    source="Hoffmann et al. 2022, arXiv 2203.15556, approach 3 (unrounded logarithms of the paper's source)",
    meaning="N with embeddings, C = 6ND, loss on MassiveText",
    counts="total",
    verified=True,
    note="its optimiser stopped early and it disagrees with approaches 1 and 2: for planning take BESIROGLU_2024",
)

BESIROGLU_2024 = published(
    "BESIROGLU_2024",
    Chinchilla(E=1.81686, A=482.006, alpha=0.34781, B=2085.43, beta=0.36585),
    source="Besiroglu et al. 2024, arXiv 2404.10102",
    meaning="N with embeddings, D = C/6N, loss on MassiveText; Chinchilla's own runs, read off its Figure 4",
    counts="total",
    verified=True,
    note="standard errors E .026, A 125, α .015, B 1293, β .021; not quite the optimum of its own objective",
    uncertainty=Uncertainty(
        covariance=(
            (0.000633266, 0.00366615, 0.000216344, 0.00640279, 0.000312235),
            (0.00366615, 0.0623902, 0.00372134, -0.02627, -0.00131446),
            (0.000216344, 0.00372134, 0.000222275, -0.00163525, -8.18922e-05),
            (0.00640279, -0.02627, -0.00163525, 0.172461, 0.00843635),
            (0.000312235, -0.00131446, -8.18922e-05, 0.00843635, 0.000412963),
        ),
        logs=("A", "B"),
        residual_sd=0.00491,
        source="4,000 bootstrap refits of the 240 runs (isoflop.laws.reproduction.chinchilla)",
    ),
)
