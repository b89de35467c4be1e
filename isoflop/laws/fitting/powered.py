"""The power of a sum, L = E + (A/N^α + B/D^β)^γ, and its log-loss with derivatives over a batch.

With s = log(A/N^α + B/D^β) of shares q, and p the power's share of L, log L = log(exp e + exp γs). Its derivatives by
the terms e, u_A, u_B and γ are p₀, pγq_A, pγq_B and ps; the second derivatives are as short. Chinchilla is γ = 1, and
Kaplan's surface [(Nc/N)^(αN/αD) + Dc/D]^αD is E = 0 and β = 1, held by its recipe. On sweeps of very small models this
form extrapolates better than Chinchilla's (docs/lab.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..forms.law import Array
from .terms import CHINCHILLA, PowerTerms, Term, Terms, huber, log_sum

E, A, B, GAMMA = range(4)  # the terms; γ is one of its own
POWERS = (0.05, 4.0)
POWER_SIDE = 16


@dataclass(frozen=True, eq=False)
class PoweredSum(Terms):
    """E + (A/N^α + B/D^β)^γ bound to runs; θ = (log E, log A, α, log B, β, γ)."""

    terms: tuple[Term, ...] = (*CHINCHILLA, Term("gamma"))

    @property
    def exponents(self) -> tuple[int, ...]:
        """α, β and γ."""
        return (2, 4, 5)

    def _local(self, theta: Array) -> tuple[Array, list[Array]]:
        e, a, b, gamma = self._values(theta)
        s, (in_a, in_b) = log_sum([a, b])
        f, (floor, rest) = log_sum([e, gamma * s])
        return f, [floor, rest * gamma * in_a, rest * gamma * in_b, rest * s]

    def _second(self, k: int, m: int, theta: Array, first: list[Array]) -> Array | float:
        floor, gamma = first[E], theta[:, -1:]
        rest = np.maximum(1 - floor, 1e-300)
        if k == E:
            return floor * rest if m == E else -floor * first[m]
        both = floor / rest * first[k] * first[m]
        if m == GAMMA:
            return both if k == GAMMA else both + first[k] / gamma
        inner = first[A] * first[B] / (rest * gamma)
        return both + inner if k == m else both - inner

    def starts(self, z: Array, weights: Array, delta: float, held: Mapping[int, float], count: int) -> Array:
        """Look over powers γ: Chinchilla's own starts rewritten; with a known floor, sums fitted to (L − E)^(1/γ)."""
        gammas = np.geomspace(*POWERS, POWER_SIDE) if 5 not in held else np.array([held[5]])
        inner = {place: value for place, value in held.items() if place in (2, 4)}
        if 0 in held:
            each = max(1, count // len(gammas))
            found = [self._above_floor(z, weights, delta, inner, gamma, held[0], each) for gamma in gammas]
        else:
            whole = PowerTerms(self.x, self.runs, CHINCHILLA).starts(z, weights, delta, inner, count)
            found = [_with_power(whole, gamma) for gamma in gammas]
        theta = np.concatenate(found)
        for place, value in held.items():
            theta[:, place] = value
        height = (weights * huber(self.log_loss(theta) - z, delta)).sum(axis=-1)
        return theta[np.argsort(height)[:count]]

    def _above_floor(
        self,
        z: Array,
        weights: Array,
        delta: float,
        held: Mapping[int, float],
        gamma: float,
        log_floor: float,
        count: int,
    ) -> Array:
        """With the floor known, (L − E)^(1/γ) is a sum of two powers: its best starts."""
        above = (z + np.log(np.maximum(-np.expm1(log_floor - z), 1e-3))) / gamma
        middle = above.mean()  # a small γ makes numbers beyond all bounds of it
        sums = PowerTerms(self.x, self.runs, CHINCHILLA[1:])
        best = sums.starts(above - middle, weights, delta, {place - 1: value for place, value in held.items()}, count)
        best[:, [0, 2]] += middle
        return np.column_stack([np.full(len(best), log_floor), best, np.full(len(best), gamma)])


def _with_power(theta: Array, gamma: float) -> Array:
    """Write each of Chinchilla's two terms as the power γ of another: (batch, 6)."""
    return np.column_stack([theta[:, 0], theta[:, 1:] / gamma, np.full(len(theta), gamma)])
