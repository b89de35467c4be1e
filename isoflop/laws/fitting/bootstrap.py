"""Bootstrap refits of a law, all replicates at once. Which bootstrap depends on the number of runs:

- 40 or more: runs are resampled with replacement, which assumes nothing about the noise.
- fewer: the design stays fixed and log residuals are resampled with random signs. A robust fit passes
  (nearly) through as many runs as it has parameters; those residuals are no sample of the noise and are
  left out. The rest are widened by √(n/(n−p)), because percentiles of few runs are too narrow.

Each replicate is refitted from the optimum and, where another basin suits it better, from there. How often the
intervals hold the truth is measured by `benchmarks/coverage.py`.
"""

from __future__ import annotations

import numpy as np

from ..forms.law import Array
from .search import Problem

FEW_RUNS = 40
BASINS = 6
TOLERANCE = 1e-7  # of the objective: a thousandth of what a replicate's parameters scatter


def refits(problem: Problem, optimum: Array, residuals: Array, replicates: int, seed: int) -> Array:
    """Refit resampled runs; return θ of shape (replicates, entries)."""
    if not replicates:
        return np.empty((0, optimum.size))
    rng = np.random.default_rng([seed, 0])
    shape = (replicates, residuals.size)
    if residuals.size >= FEW_RUNS:
        return refit(
            problem, optimum, np.broadcast_to(problem.z, shape), problem.weights * resample_counts(rng, *shape)
        )
    z = resample_noise(rng, problem.z - residuals, residuals, len(problem.bound.free), replicates)
    return refit(problem, optimum, z, np.broadcast_to(problem.weights, shape))


def resample_counts(rng: np.random.Generator, replicates: int, runs: int) -> Array:
    """How often each run is drawn in each replicate, with replacement: (replicates, runs)."""
    return rng.multinomial(runs, np.full(runs, 1 / runs), replicates).astype(float)


def resample_noise(
    rng: np.random.Generator, fitted: Array, residuals: Array, parameters: int, replicates: int
) -> Array:
    """Log losses with resampled noise of random sign about the fitted ones: (replicates, runs)."""
    shape = (replicates, residuals.size)
    free = np.sort(np.abs(residuals))[parameters:]
    widening = np.sqrt(residuals.size / (residuals.size - parameters))
    return np.asarray(fitted + rng.choice([-1.0, 1.0], shape) * widening * rng.choice(free, shape))


def refit(problem: Problem, optimum: Array, z: Array, weights: Array) -> Array:
    """Refit every replicate, z and weights (replicates, runs), from the optimum and from a start that suits it better.

    The lower minimum is kept, so that no replicate is held in the basin of the original.
    """
    begin = np.broadcast_to(optimum, (len(z), optimum.size))
    minima, reached = problem.descend(begin, z, weights, tolerance=TOLERANCE)
    cells = problem.starts(BASINS)
    own = np.argmin([problem.heights(cell[None], z, weights) for cell in cells], axis=0)
    moved = np.flatnonzero(own)  # cell 0 is the original's own, from which the optimum was reached
    if moved.size:
        other, height = problem.descend(cells[own[moved]], z[moved], weights[moved], tolerance=TOLERANCE)
        lower = height < reached[moved]
        minima[moved[lower]] = other[lower]
    return minima
