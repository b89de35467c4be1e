"""Laws that are not sums of powers: a form states its log-loss, and derivatives follow by complex steps.

f(θ + ih) has ∂f/∂θ·h as its imaginary part, exactly, however small h (Squire & Trapp 1998), so the gradient costs one
complex evaluation per entry of θ and loses no digit; differences of it give the curvature. A form that states its
gradient too, as repeated data here does, is ten times faster; the tests hold the two against each other. All seven
parameters of repeated data take about a second for 180 runs, R_D and R_N alone .1 s and 5 ms a replicate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..forms.law import Array, Index
from .terms import huber, nonnegative, separate

TINY = 1e-30
DIFFERENCE = 1e-5
EXPONENT_GRID, LIFE_GRID = np.geomspace(0.08, 1.2, 7), np.log(np.geomspace(0.5, 200.0, 4))  # the first look
FINE_LIFE_GRID = np.log(np.geomspace(0.3, 1000.0, 25))
MATCHED_SIDE = 5
MOST_LIFE = 200.0  # |log R|: beyond it a life is as good as endless, or as none


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
        """Return slope and curvature of Σ w·Huber(log L − z), as :meth:`~.terms.Terms.expand` does."""
        residual, g = self.log_loss(theta) - z, self.gradient(theta)
        pull = weights * np.clip(residual, -delta, delta)
        own = weights * (np.abs(residual) <= delta)
        curvature = np.swapaxes(g * own[..., None], -1, -2) @ g
        steps = DIFFERENCE * np.eye(theta.shape[1])[list(self.free)]
        near = self.gradient((theta + np.stack([steps, -steps])[:, :, None]).reshape(-1, theta.shape[1]))
        ahead, behind = near.reshape(2, len(steps), *g.shape)
        bend = pull[:, None] @ ((ahead - behind) / (2 * DIFFERENCE))
        curvature[:, :, list(self.free)] += np.moveaxis(bend[:, :, 0], 0, -1)
        return (pull[:, None] @ g)[:, 0], (curvature + np.swapaxes(curvature, -1, -2)) / 2


@dataclass(frozen=True, eq=False)
class Repeated(Curved):
    """log L of Chinchilla's surface at the effective N′ and D′ of repeated data (Muennighoff et al. 2023).

    The columns are centred logarithms of N, D and the unique tokens U.
    """

    names: tuple[str, ...] = ("E", "A", "alpha", "B", "beta", "R_D", "R_N")
    exponents: tuple[int, ...] = (2, 4)

    def value(self, theta: Any) -> Any:
        """log L."""
        log_N, log_D = self._effective(theta)
        e, a, alpha, b, beta = (theta[:, i, None] for i in range(5))
        return _log_add(e + 0 * log_N, _log_add(a - alpha * log_N, b - beta * log_D))

    def _effective(self, theta: Any) -> tuple[Any, Any]:
        """Return the centred log N′ and log D′, (batch, runs)."""
        fresh, matched = self._fresh, self._matched(theta)
        full = np.where(np.real(matched) > self.x["N"], self.x["N"], matched)
        worth_D, worth_N = _worth(self.x["D"] - fresh, theta[:, 5, None]), _worth(self.x["N"] - full, theta[:, 6, None])
        return full + np.log1p(worth_N), fresh + np.log1p(worth_D)

    @property
    def _fresh(self) -> Array:
        """The unique tokens that were seen, in the frame of D."""
        return np.minimum(self.x["U"] + (self.centre["U"] - self.centre["D"]), self.x["D"])

    def _matched(self, theta: Any) -> Any:
        """The size for which the unique tokens are the optimum, in the frame of N."""
        _, a, alpha, b, beta = (theta[:, i, None] for i in range(5))
        return (np.log(alpha / beta) + a - b + beta * self._fresh) / alpha

    def gradient(self, theta: Array) -> Array:
        """Return ∇ log L, shape (batch, runs, entries)."""
        _, a, alpha, b, beta = (theta[:, i, None] for i in range(5))
        log_N, log_D = self._effective(theta)
        matched, fresh = self._matched(theta), self._fresh
        parts = np.stack([np.broadcast_to(theta[:, :1], log_N.shape), a - alpha * log_N, b - beta * log_D])
        floor, by_N, by_D = np.exp(parts - self.log_loss(theta))
        by_full, life_N = _worth_slopes(self.x["N"] - np.minimum(matched, self.x["N"]), theta[:, 6, None])
        _, life_D = _worth_slopes(self.x["D"] - fresh, theta[:, 5, None])
        shift = by_N * by_full  # what a larger matched size does, times α of it
        slopes = [
            floor,
            by_N - shift,
            -by_N * log_N - shift * (1 / alpha - matched),
            by_D + shift,
            -by_D * log_D - shift * (fresh - 1 / beta),
            -beta * by_D * life_D,
            -alpha * by_N * life_N,
        ]
        return np.stack(slopes, axis=-1)

    def starts(self, z: Array, weights: Array, delta: float, held: Mapping[int, float], count: int) -> Array:
        """Look over a grid of exponents, half-lives and matched sizes; given those, the loss is linear in E and B.

        The size for which the unique tokens are the optimum fixes A/B, and with it both effective sizes.
        """
        theta, ratio, cells = self._grid(held)
        log_N, log_D = self._effective(theta)
        terms = ratio - theta[:, 2, None] * log_N, -theta[:, 4, None] * log_D
        basis = np.stack([np.ones_like(log_N), np.exp(np.logaddexp(*terms))], axis=1)
        weighted = basis * (weights * np.exp(-2 * z))
        gram, moment = weighted @ np.swapaxes(basis, 1, 2), weighted @ np.exp(z)
        E, B = nonnegative(gram, moment, [0, 1]).T
        floor = 1e-4 * np.exp(z.min())  # small enough to mean zero, large enough to come back
        theta[:, 0], theta[:, 3] = np.log(np.maximum(E, floor)), np.log(np.maximum(B, floor))
        theta[:, 1] = theta[:, 3] + ratio[:, 0]
        theta[:, list(held)] = list(held.values())
        height = (weights * huber(self.log_loss(theta) - z, delta)).sum(axis=-1)
        return theta[separate(height, cells, count)]

    def _grid(self, held: Mapping[int, float]) -> tuple[Array, Array, Index]:
        """Every cell as θ with B = 1 (cells, 7), its log A/B (cells, 1), and its place on the grid (cells, 5)."""
        # Half-lives make shallow basins side by side: where the exponents are known, look at them closely.
        lives = FINE_LIFE_GRID if {2, 4} <= held.keys() else LIFE_GRID
        axes = {2: EXPONENT_GRID, 4: EXPONENT_GRID, 5: lives, 6: lives}
        values = [np.array([held[place]]) if place in held else axis for place, axis in axes.items()]
        known = {1, 3} <= held.keys()  # then so is the matched size
        values.append(np.linspace(self.x["N"].min(), self.x["N"].max(), 1 if known else MATCHED_SIDE))
        cells = np.indices([axis.size for axis in values]).reshape(5, -1).T
        alpha, beta, log_rd, log_rn, matched = (axis[cells[:, i]] for i, axis in enumerate(values))
        ratio = alpha * matched - np.log(alpha / beta) - beta * self._fresh.mean()
        zero = np.zeros_like(alpha)
        return np.stack([zero, ratio, alpha, zero, beta, log_rd, log_rn], axis=-1), ratio[:, None], cells


def _worth(times: Any, log_life: Any) -> Any:
    """What passes beyond the first are worth in fresh passes, R·(1 − exp(−(passes − 1)/R)); ``times`` is log passes."""
    passes, life = _beyond_first(times), _life(log_life)
    return -life * np.expm1(-passes / life)


def _worth_slopes(times: Array, log_life: Array) -> tuple[Array, Array]:
    """The slopes of log(full·(1 + worth)) by log full, at a fixed amount, and by log R."""
    passes, life = _beyond_first(times), _life(log_life)
    decay, worth = np.exp(-passes / life), -life * np.expm1(-passes / life)
    return 1 - decay * (1 + passes) / (1 + worth), (worth - passes * decay) / (1 + worth)


def _beyond_first(times: Any) -> Any:
    return np.exp(np.where(np.real(times) > 300, 300, times)) - 1


def _life(log_life: Any) -> Any:
    return np.exp(np.where(np.abs(log_life) > MOST_LIFE, np.sign(np.real(log_life)) * MOST_LIFE, log_life))


def _log_add(u: Any, v: Any) -> Any:
    """log(exp u + exp v), for real or complex."""
    top = np.maximum(np.real(u), np.real(v))
    return top + np.log(np.exp(u - top) + np.exp(v - top))
