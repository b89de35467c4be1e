"""A law as a sum of power terms, L = Σ_k c_k · x^−exponent, and its log-loss with derivatives over a batch.

Most laws of the loss have this shape: Chinchilla is three terms, a power law with a floor two. In the fitter's
frame, θ holds the logarithms of the coefficients and the exponents, the columns are centred logarithms, and

    log L = log Σ_k exp u_k(θ),    u_k linear in θ,

so first and second derivatives of log L are products of the terms' shares p_k = exp u_k / L with fixed columns:
∇f = Σ p_k ∇u_k and ∇²f = Σ p_k ∇u_k ∇u_kᵀ − ∇f ∇fᵀ. Everything is a batch over the first axis: starts of one fit and
replicates of a bootstrap run through the same matrix products. Two terms may share an exponent (a tied law).

Left out: terms that are not powers (see :mod:`.curved`); a power of a sum is in :mod:`.powered`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from ..forms.law import Array, Index

GRID = (0.03, 3.0)  # exponents of the first, coarse look
GRID_SIDE = {0: 1, 1: 96, 2: 22}  # points per axis, by the number of axes


@dataclass(frozen=True)
class Term:
    """One term: a coefficient, and the column and exponent that it falls with (none: a constant)."""

    coefficient: str
    column: str | None = None
    exponent: str | None = None


CHINCHILLA = (Term("E"), Term("A", "N", "alpha"), Term("B", "D", "beta"))


@dataclass(frozen=True, eq=False)
class Terms:
    """A log-loss built of terms u_k(θ) that are linear in θ, bound to runs; a subclass says how they are put together.

    ``x`` maps a column's name to its centred logarithms, shape (runs,).
    """

    x: Mapping[str, Array]
    runs: int
    terms: tuple[Term, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The entries of θ: each term's coefficient, then its exponent where it is new."""
        found: dict[str, None] = {}
        for term in self.terms:
            found[term.coefficient] = None
            if term.exponent is not None:
                found[term.exponent] = None
        return tuple(found)

    @cached_property
    def exponents(self) -> tuple[int, ...]:
        """The places of exponents in θ."""
        wanted = {term.exponent for term in self.terms}
        return tuple(i for i, name in enumerate(self.names) if name in wanted)

    @cached_property
    def _places(self) -> list[list[int]]:
        """For each term, the entries of θ that u_k depends on."""
        return [[self.names.index(n) for n in (t.coefficient, t.exponent) if n is not None] for t in self.terms]

    @cached_property
    def _columns(self) -> list[Array]:
        """For each term, ∂u_k/∂θ at those entries: (entries, runs)."""
        ones = np.ones(self.runs)
        return [np.stack([ones] if t.column is None else [ones, -self.x[t.column]]) for t in self.terms]

    @cached_property
    def _products(self) -> list[tuple[int, int, Array]]:
        """For each pair of terms k ≤ m, the products of their columns: (runs, entries of k · entries of m)."""
        pairs = [(k, m) for k in range(len(self.terms)) for m in range(k, len(self.terms))]
        return [
            (k, m, (self._columns[k][:, None] * self._columns[m][None]).reshape(-1, self.runs).T.copy())
            for k, m in pairs
        ]

    def _values(self, theta: Array) -> list[Array]:
        """Every u_k, (batch, runs)."""
        return [theta[:, places] @ columns for places, columns in zip(self._places, self._columns, strict=True)]

    def _local(self, theta: Array) -> tuple[Array, list[Array]]:
        """Return log L and its derivatives by every u_k, each (batch, runs)."""
        raise NotImplementedError

    def _second(self, k: int, m: int, theta: Array, first: list[Array]) -> Array | float:
        """The second derivative of log L by u_k and u_m, (batch, runs)."""
        raise NotImplementedError

    def log_loss(self, theta: Array) -> Array:
        """Return log L, shape (batch, runs), for θ of shape (batch, entries)."""
        return self._local(theta)[0]

    def gradient(self, theta: Array) -> Array:
        """Return ∇ log L, shape (batch, runs, entries)."""
        _, first = self._local(theta)
        gradient = np.zeros((len(theta), self.runs, len(self.names)))
        for slope, places, columns in zip(first, self._places, self._columns, strict=True):
            for place, column in zip(places, columns, strict=True):
                gradient[..., place] += slope * column
        return gradient

    def expand(self, theta: Array, z: Array, weights: Array, delta: float) -> tuple[Array, Array]:
        """Return slope (batch, entries) and curvature (batch, entries, entries) of Σ w·Huber(log L − z).

        The curvature is exact, and so may be indefinite.
        """
        f, first = self._local(theta)
        residual = np.subtract(f, z, out=f)
        pull = weights * np.clip(residual, -delta, delta)
        size = np.abs(residual, out=residual)
        own = weights * (size <= delta)
        entries = len(self.names)
        slope, curvature = np.zeros((len(theta), entries)), np.zeros((len(theta), entries, entries))
        for g, places, columns in zip(first, self._places, self._columns, strict=True):
            slope[:, places] += (pull * g) @ columns.T
        owned = [own * g for g in first]
        for k, m, product in self._products:
            weight = owned[k] * first[m] + pull * self._second(k, m, theta, first)
            block = (weight @ product).reshape(-1, len(self._places[k]), len(self._places[m]))
            for i, row in enumerate(self._places[k]):
                for j, column in enumerate(self._places[m]):
                    curvature[:, row, column] += block[:, i, j]
                    if k != m:
                        curvature[:, column, row] += block[:, i, j]
        return slope, curvature


@dataclass(frozen=True, eq=False)
class PowerTerms(Terms):
    """A sum of power terms: log L = log Σ exp u_k, whose slopes are the terms' shares p_k of L."""

    def _local(self, theta: Array) -> tuple[Array, list[Array]]:
        return log_sum(self._values(theta))

    def _second(self, k: int, m: int, theta: Array, first: list[Array]) -> Array | float:
        return first[k] * (1 - first[k]) if k == m else -first[k] * first[m]

    def starts(self, z: Array, weights: Array, delta: float, held: Mapping[int, float], count: int) -> Array:
        """Return the ``count`` best separate cells of a grid of exponents as θ, best first: (count, entries).

        For given exponents the coefficients are linear and non-negative, so *variable projection* (Golub & Pereyra
        1973) gives them in closed form, every cell of the grid at once. ``held`` maps entries of θ to their values.
        """
        free = [place for place in self.exponents if place not in held]
        side = np.geomspace(*GRID, GRID_SIDE[len(free)])
        cells = np.indices((side.size,) * len(free)).reshape(len(free), side.size ** len(free)).T
        theta = np.zeros((len(cells), len(self.names)))
        theta[:, free] = side[cells]
        for place, value in held.items():
            theta[:, place] = value
        basis, index = self._basis(theta)
        coefficients = self._project(basis, index, z, weights, held)
        places = [place[0] for place in self._places]
        # A coefficient of zero has no logarithm: start it small enough to mean zero, large enough to come back.
        theta[:, places] = np.log(np.maximum(coefficients, 1e-4 * np.exp(z.min())))
        for place, value in held.items():
            theta[:, place] = value
        predicted = sum(np.exp(theta[:, p, None]) * b[i] for p, b, i in zip(places, basis, index, strict=True))
        height = (weights * huber(np.log(predicted) - z, delta)).sum(axis=-1)
        return theta[separate(height, cells, count)]

    def _basis(self, theta: Array) -> tuple[list[Array], list[Index]]:
        """Every term's shape at its distinct exponents (values, runs), and which of them each cell has (cells,)."""
        basis, index = [], []
        for term, places, columns in zip(self.terms, self._places, self._columns, strict=True):
            exponents = theta[:, places[1]] if term.exponent else np.zeros(len(theta))
            values, where = np.unique(exponents, return_inverse=True)
            basis.append(np.exp(np.outer(values, columns[-1])))
            index.append(where)
        return basis, index

    def _project(
        self, basis: list[Array], index: list[Index], z: Array, weights: Array, held: Mapping[int, float]
    ) -> Array:
        """Fit L ≈ Σ c_k φ_k by relative least squares in every cell: coefficients ≥ 0, shape (cells, terms).

        The constrained optimum has some subset of them free and the rest at zero: the largest feasible subset of
        lowest error is it.
        """
        w, L = weights * np.exp(-2 * z), np.exp(z)
        K, cells = len(self.terms), len(index[0])
        gram, moment = np.empty((cells, K, K)), np.empty((cells, K))
        for k in range(K):
            moment[:, k] = (basis[k] @ (w * L))[index[k]]
            for m in range(K):
                gram[:, k, m] = ((basis[k] * w) @ basis[m].T)[index[k], index[m]]
        known = np.zeros((cells, K))
        for k, places in enumerate(self._places):
            if places[0] in held:
                known[:, k] = np.exp(held[places[0]])
        unknown = [k for k, places in enumerate(self._places) if places[0] not in held]
        moment = moment - np.einsum("ckm,cm->ck", gram, known)
        return known + nonnegative(gram, moment, unknown)


def log_sum(logs: list[Array]) -> tuple[Array, list[Array]]:
    """Return log Σ exp and every term's share of the sum; the terms' own arrays are used up."""
    top = logs[0].copy()
    for u in logs[1:]:
        np.maximum(top, u, out=top)
    shares = [np.exp(np.subtract(u, top, out=u), out=u) for u in logs]
    total = shares[0].copy()
    for share in shares[1:]:
        total += share
    top += np.log(total)
    np.reciprocal(total, out=total)
    for share in shares:
        share *= total
    return top, shares


def nonnegative(gram: Array, moment: Array, unknown: list[int]) -> Array:
    """Minimise ½cᵀGc − mᵀc over c ≥ 0 in every cell, entries outside ``unknown`` zero: shape (cells, terms)."""
    best, coefficients = np.full(len(gram), np.inf), np.zeros_like(moment)
    todo = np.arange(len(gram))
    for subset in (np.array(s) for size in range(len(unknown), 0, -1) for s in combinations(unknown, size)):
        square = gram[todo[:, None, None], subset[:, None], subset]
        target = moment[todo[:, None], subset]
        ridge = 1e-13 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(len(subset))
        solution: Array = np.linalg.solve(square + ridge, target[..., None])[..., 0]
        height = -(solution * target).sum(axis=-1)
        better = (solution >= 0).all(axis=-1) & (height < best[todo])
        rows = todo[better]
        best[rows] = height[better]
        coefficients[rows] = 0.0
        coefficients[rows[:, None], subset] = solution[better]
        if len(subset) == len(unknown):
            todo = todo[~better]  # feasible without a constraint: nothing can be lower
    return coefficients


def separate(height: Array, cells: Index, count: int) -> Index:
    """Return the indices of up to ``count`` lowest cells, no two of them neighbours on the grid."""
    order = np.argsort(height)
    chosen: list[int] = []
    for cell in order:
        if all(np.abs(cells[cell] - cells[other]).max(initial=0) > 1 for other in chosen):
            chosen.append(int(cell))
        if len(chosen) == count or not cells.shape[1]:
            break
    return np.array(chosen)


def huber(residual: Array, delta: float) -> Array:
    """Return r²/2 within delta and linear growth beyond."""
    size = np.abs(residual)
    inner = np.minimum(size, delta)
    return np.asarray(inner * (size - inner / 2))
