"""Laws of one variable, x any of N, D or C: a pure power, and a power that falls to a floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import Uncertainty, published
from .law import BLANK, Law, Values


@dataclass(frozen=True, repr=False)
class PowerLaw(Law, kind="power-law"):
    """y = coefficient · x^exponent.

    Units are the caller's. Llama 3's tokens for a budget, D*(C) = A·C^α, has x in FLOPs and y in tokens.
    """

    coefficient: float = BLANK
    exponent: float = BLANK
    formula = "y = {coefficient} · x^{exponent}"

    def __call__(self, x: ArrayLike) -> Values:
        """Evaluate the law at ``x``."""
        return self.coefficient * np.asarray(x, float) ** self.exponent

    def slope(self, x: ArrayLike) -> Values:
        """Give dy/dx at ``x``."""
        return self.exponent * self(x) / np.asarray(x, float)

    def inverse(self, y: ArrayLike) -> Values:
        """Give the x at which the law is ``y``."""
        return (np.asarray(y, float) / self.coefficient) ** (1 / self.exponent)


@dataclass(frozen=True, repr=False)
class SaturatingPowerLaw(Law, kind="saturating-power-law"):
    """L = floor + (scale / x)^exponent, with x any of N, D or C, L and floor in nats per token.

    The floor is the entropy of the data; the second term is what more scale still removes; ``scale`` is the
    x at which that term is one nat. Source: Henighan et al. 2020, "Scaling Laws for Autoregressive Generative
    Modeling", equation 1.1; with floor 0 it is Kaplan et al. 2020; GPT-4's and Baichuan 2's reports extrapolate
    small models to one size with it.
    """

    floor: float = BLANK
    scale: float = BLANK
    exponent: float = BLANK
    formula = "L = {floor} + ({scale} / x)^{exponent}"

    def __call__(self, x: ArrayLike) -> Values:
        """Evaluate the loss at ``x``."""
        return self.floor + (self.scale / np.asarray(x, float)) ** self.exponent

    def slope(self, x: ArrayLike) -> Values:
        """Give dL/dx at ``x``."""
        return -self.exponent * (self(x) - self.floor) / np.asarray(x, float)

    def inverse(self, loss: ArrayLike) -> Values:
        """Give the x that reaches ``loss``; infinite at or below the floor."""
        above = np.asarray(loss, float) - self.floor
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(above > 0, self.scale * np.abs(above) ** (-1 / self.exponent), np.inf)[()]


LLAMA3_TOKENS = published(
    "LLAMA3_TOKENS",
    PowerLaw(coefficient=0.29936, exponent=0.53678),
    source="Grattafiori et al. 2024, arXiv 2407.21783, section 3.2.1, recomputed from its Figure 2",
    meaning="compute-optimal tokens D*(C): C in FLOPs = 6ND, N the whole model, D in tokens",
    counts="total",
    verified=True,
    note="the paper rounds to (.53, .29), which would give 10.5T tokens; unrounded and at C = 4.0e25 they give its "
    "headline, 402B parameters on 16.55T tokens",
    uncertainty=Uncertainty(
        covariance=((1.0196047, -0.021888556), (-0.021888556, 0.00047096128)),
        logs=("coefficient",),
        source="4,000 resamplings of the ten minima and their scatter (isoflop.laws.reproduction.llama3)",
    ),
)
