"""Logistic regression on rows of hashed features, by L-BFGS: convex, so the same answer from the same rows.

Costs a product with the sparse matrix of all rows and one with its transpose per iteration. Memory: 8 bytes per entry of
the rows for as long as it runs, and about fifteen vectors of the size of the weight table.
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

    Minimizes the mean log loss, in which both classes count the same whatever their sizes, plus ``l2``/2 times the squared
    norm of the weights; the bias is free. A row is a vector of unit length if its entries differ.
    """
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix

    count, entries = rows.shape
    ones = np.full(rows.size, entries**-0.5, np.float32)
    shape = (count, features.columns)
    matrix = csr_matrix((ones, rows.ravel().astype(np.int32), np.arange(count + 1) * entries), shape=shape)
    sign = np.where(positive, 1.0, -1.0)
    share = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (matrix @ weights + bias)
        slope = -sign * share * np.exp(-np.logaddexp(0, margin))
        value = share @ np.logaddexp(0, -margin) + 0.5 * l2 * (weights @ weights)
        return float(value), np.append(matrix.T @ slope + l2 * weights, slope.sum())

    start = np.zeros(features.columns + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 5})
    return found.x[:-1], float(found.x[-1])


def area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The probability that a positive scores above a negative, ties counting half; both must be there."""
    from scipy.stats import rankdata

    positives = int(positive.sum())
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(positive) - positives)))
