"""Laws that are not sums of powers: a form states its log-loss, and derivatives follow by complex steps.

f(θ + ih) has ∂f/∂θ·h as its imaginary part, exactly, however small h (Squire & Trapp 1998), so the gradient costs one
complex evaluation per entry of θ and loses no digit; differences of that gradient give the curvature. Some ten
times the time of :class:`~.terms.PowerTerms`, still milliseconds a fit. Forms here: the power of a sum (supervised
distillation; Kaplan's surface is the case without a floor and with β = 1), and repeated data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..forms.law import Array
from .terms import CHINCHILLA, PowerTerms, huber

TINY = 1e-30
DIFFERENCE = 1e-5


@dataclass(frozen=True, eq=False)
class Curved:
    """A form whose log-loss is written for complex θ; the rest is derived, for the ``free`` entries of θ."""

    x: Mapping[str, Array]
    runs: int
    centre: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    exponents: tuple[int, ...] = ()
    free: tuple[int, ...] = ()

    def value(self, theta: Any) -> Any:
        """log L, (batch, runs), analytic in θ (real or complex)."""
        raise NotImplementedError

    def log_loss(self, theta: Array) -> Array:
        """Return log L, shape (batch, runs)."""
        return np.asarray(self.value(theta), float)

    def gradient(self, theta: Array) -> Array:
        """Return ∇ log L, shape (batch, runs, entries), zero for entries that are not free."""
        gradient = np.zeros((len(theta), self.runs, theta.shape[1]))
        for i in self.free:
            step = np.zeros(theta.shape[1], complex)
            step[i] = TINY * 1j
            gradient[..., i] = self.value(theta + step).imag / TINY
        return gradient

    def expand(self, theta: Array, z: Array, weights: Array, delta: float) -> tuple[Array, Array]:
        """Return slope and curvature of Σ w·Huber(log L − z), as :meth:`~.terms.PowerTerms.expand` does."""
        residual, g = self.log_loss(theta) - z, self.gradient(theta)
        pull = weights * np.clip(residual, -delta, delta)
        own = weights * (np.abs(residual) <= delta)
        curvature = np.swapaxes(g * own[..., None], -1, -2) @ g
        for i in self.free:
            step = DIFFERENCE * (np.arange(theta.shape[1]) == i)
            ahead, behind = self.gradient(theta + step), self.gradient(theta - step)
            curvature[:, :, i] += np.einsum("bn,bnp->bp", pull, ahead - behind) / (2 * DIFFERENCE)
        return np.einsum("bn,bnp->bp", pull, g), (curvature + np.swapaxes(curvature, -1, -2)) / 2

    def lowest(self, theta: Array, z: Array, weights: Array, delta: float, count: int) -> Array:
        """Return the ``count`` of many θ with the lowest objective."""
        height = (weights * huber(self.log_loss(theta) - z, delta)).sum(axis=-1)
        return theta[np.argsort(height)[:count]]


@dataclass(frozen=True, eq=False)
class Repeated(Curved):
    """log L of Chinchilla's surface at the effective N′ and D′ of repeated data (Muennighoff et al. 2023).

    The columns are centred logarithms of N, D and the unique tokens U.
    """

    names: tuple[str, ...] = ("E", "A", "alpha", "B", "beta", "R_D", "R_N")
    exponents: tuple[int, ...] = (2, 4)

    def value(self, theta: Any) -> Any:
        """log L."""
        e, a, alpha, b, beta, log_rd, log_rn = (theta[:, i, None] for i in range(7))
        n0, d0 = self.centre["N"], self.centre["D"]
        log_N, log_D, log_U = (self.x[name] + self.centre[name] for name in ("N", "D", "U"))
        log_U = np.minimum(log_U, log_D)  # tokens beyond those trained on are not seen
        log_G = (np.log(alpha) + a + alpha * n0 - np.log(beta) - b - beta * d0) / (alpha + beta)
        log_fitting = log_G + (log_U + log_G) * beta / alpha  # the size for which U tokens are the optimum
        small = np.real(log_fitting) > log_N
        log_UN = np.where(small, log_N, log_fitting)
        log_D_eff = log_U + np.log1p(_worth(_exp(log_D - log_U) - 1, np.exp(log_rd)))
        log_N_eff = log_UN + np.log1p(_worth(_exp(log_N - log_UN) - 1, np.exp(log_rn)))
        terms = _log_add(a - alpha * (log_N_eff - n0), b - beta * (log_D_eff - d0))
        return _log_add(e + 0 * terms, terms)

    def starts(self, z: Array, weights: Array, delta: float, held: Mapping[int, float], count: int) -> Array:
        """Chinchilla's starts, crossed with a grid of the two half-lives."""
        inner = PowerTerms(self.x, self.runs, CHINCHILLA)
        base = inner.starts(z, weights, delta, {k: v for k, v in held.items() if k < 5}, count)
        lives = np.log(np.geomspace(0.5, 500.0, 15))
        grid = np.stack(np.meshgrid(lives, lives), axis=-1).reshape(-1, 2)
        theta = np.concatenate([np.column_stack([np.broadcast_to(start, (len(grid), 5)), grid]) for start in base])
        theta[:, list(held)] = list(held.values())
        return self.lowest(theta, z, weights, delta, count)


def _worth(repeats: Any, life: Any) -> Any:
    """How much ``repeats`` more passes are worth in fresh passes: R*·(1 − exp(−R/R*))."""
    return -life * np.expm1(-repeats / life)


def _exp(u: Any) -> Any:
    """exp, short of overflow."""
    return np.exp(np.where(np.real(u) > 300, 300, u))


def _log_add(u: Any, v: Any) -> Any:
    """log(exp u + exp v), for real or complex."""
    top = np.maximum(np.real(u), np.real(v))
    return top + np.log(np.exp(u - top) + np.exp(v - top))
