"""Logistic regression on rows of hashed features, by L-BFGS: convex, so the same answer from the same rows.

Costs a product with the sparse matrix of all rows and one with its transpose per iteration. Memory: 8 bytes per entry
of the rows while it runs, and about fifteen vectors of the columns in use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.models.features import Features, Rows

Floats = NDArray[np.float64]


def fit_logistic(
    rows: Rows, positive: NDArray[np.bool_], features: Features, l2: float, iterations: int
) -> tuple[Floats, float]:
    """Weights of shape (columns,) and bias of P(positive | row), for full rows.

    Minimizes the mean log loss, in which both classes count the same whatever their sizes, plus ``l2``/2 times the
    squared norm of the weights; the bias is free. A row is a vector of unit length if its entries differ. Columns
    that occur once in all rows are left at zero: they could only learn the one window they are in.
    """
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix

    count, entries = rows.shape
    used = np.bincount(rows.ravel(), minlength=features.columns) > 1
    kept = used[rows]
    values = np.full(int(kept.sum()), entries**-0.5, np.float32)
    columns = (np.cumsum(used, dtype=np.int32) - 1)[rows[kept]]
    matrix = csr_matrix((values, columns, np.append(0, np.cumsum(kept.sum(axis=1)))), shape=(count, int(used.sum())))
    sign = np.where(positive, 1.0, -1.0)
    share = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (matrix @ weights + bias)
        slope = -sign * share * np.exp(-np.logaddexp(0, margin))
        value = share @ np.logaddexp(0, -margin) + 0.5 * l2 * (weights @ weights)
        return float(value), np.append(matrix.T @ slope + l2 * weights, slope.sum())

    start = np.zeros(matrix.shape[1] + 1)
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 5, "ftol": 1e-6}
    )
    weights = np.zeros(features.columns)
    weights[used] = found.x[:-1]
    return weights, float(found.x[-1])


def area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The probability that a positive scores above a negative, ties counting half; both must be there."""
    from scipy.stats import rankdata

    positives = int(positive.sum())
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(positive) - positives)))
