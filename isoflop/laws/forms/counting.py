"""Two ways of counting parameters, with embeddings and without, and what the choice does to a measured exponent.

Kaplan et al. count N and C without embeddings and find N* ∝ C^.73; Chinchilla counts everything and finds .50.
Embeddings are most of a small model and little of a large one, so a law that is straight in one count is bent in
the other. Everything here is closed but the measured exponent, a least-squares line through twenty sizes. Left out:
tied embeddings and other vocabularies, which change the published constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .chinchilla import Chinchilla
from .law import BLANK, Array, Law, Values, positive
from .surface import FLOPS

KAPLAN_SIZES = (768.0, 1.5e9)  # the range of Kaplan et al.'s models, without embeddings


@dataclass(frozen=True, repr=False)
class EmbeddingBridge(Law, kind="embedding-bridge"):
    """N = N_E + ω·N_E^(1/3), with N all parameters and N_E those outside the embeddings.

    At a fixed aspect ratio N_E goes as the cube of the width and embeddings as the width. Source: Pearce & Song
    2024, "Reconciling Kaplan and Chinchilla Scaling Laws".
    """

    omega: float = BLANK
    formula = "N = N_E + {omega}·N_E^(1/3)"

    def total(self, N_E: ArrayLike) -> Values:
        """All parameters of a model with N_E outside its embeddings."""
        outside = np.asarray(N_E, float)
        return outside + self.omega * np.cbrt(outside)

    def non_embedding(self, N: ArrayLike) -> Values:
        """Parameters outside the embeddings of a model with N in all: the real root of t³ + ωt = N, cubed."""
        third = math.sqrt(self.omega / 3)
        return (2 * third * np.sinh(np.arcsinh(np.asarray(N, float) / (2 * third**3)) / 3)) ** 3

    def total_compute(self, C_E: ArrayLike, N_E: ArrayLike) -> Values:
        """FLOPs 6·N·D of a run that costs C_E = 6·N_E·D without embeddings."""
        return np.asarray(C_E, float) * self.total(N_E) / np.asarray(N_E, float)

    def non_embedding_compute(self, C: ArrayLike, N: ArrayLike) -> Values:
        """FLOPs 6·N_E·D of a run that costs C = 6·N·D in all."""
        return np.asarray(C, float) * self.non_embedding(N) / np.asarray(N, float)

    def budget_of(self, surface: Chinchilla, N_E: ArrayLike) -> Values:
        """The budget C_E = 6·N_E·D at which N_E is the best size, where the loss follows ``surface`` in all parameters.

        At the optimum αA/N^α · s = βB/D^β, with s = d log N / d log N_E.
        """
        outside = positive("N_E", N_E)
        size_term = surface.alpha * surface.A * self.total(outside) ** -surface.alpha * self._elasticity(outside)[0]
        return FLOPS * outside * (surface.beta * surface.B / size_term) ** (1 / surface.beta)

    def local_exponent(self, surface: Chinchilla, N_E: ArrayLike) -> Values:
        """d log N_E* / d log C_E at N_E: β/(β + αs − d log s / d log N_E), which is Chinchilla's for large N_E."""
        s, growth = self._elasticity(positive("N_E", N_E))
        return surface.beta / (surface.beta + surface.alpha * s - growth)

    def measured_exponent(
        self, surface: Chinchilla, smallest: float = KAPLAN_SIZES[0], largest: float = KAPLAN_SIZES[1]
    ) -> float:
        """The exponent that a line through log N_E*(C_E) has over a range of sizes, twenty of them evenly spaced."""
        sizes = np.geomspace(smallest, largest, 20)
        return float(np.polyfit(np.log(self.budget_of(surface, sizes)), np.log(sizes), 1)[0])

    def _elasticity(self, outside: Array) -> tuple[Array, Array]:
        """Return s = d log N / d log N_E, which rises from 1/3 to 1, and d log s / d log N_E."""
        ratio = self.omega * outside ** (-2 / 3)  # embeddings over the rest
        return (1 + ratio / 3) / (1 + ratio), 4 / 9 * ratio / ((1 + ratio / 3) * (1 + ratio))


PEARCE_2024 = published(
    "PEARCE_2024",
    EmbeddingBridge(omega=47491.0),
    source="Pearce & Song 2024, arXiv 2406.12907",
    meaning="N all parameters, N_E those outside the embeddings, for Chinchilla's shapes and vocabulary of 32,000",
    verified=True,
)
