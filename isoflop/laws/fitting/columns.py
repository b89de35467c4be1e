"""Runs as columns: equal-length vectors of positive finite numbers, or a ValueError that names the row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array


def positive_columns(**columns: ArrayLike) -> tuple[Array, ...]:
    """Return the named columns as float vectors of shape (runs,), in the order given.

    Raises ValueError when a column is not a vector of numbers, when lengths differ, or when a row holds a
    value that is NaN, infinite, zero or negative; the sentence names the column and up to five rows, from 0.
    """
    vectors = {}
    for name, column in columns.items():
        try:
            vectors[name] = np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is not a list of numbers ({error})") from None
        if vectors[name].ndim != 1:
            raise ValueError(f"{name} has shape {vectors[name].shape}; give one number per run")
    lengths = {name: vector.size for name, vector in vectors.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} has {size}" for name, size in lengths.items())
        raise ValueError(f"the columns differ in length ({listing}); give one entry per run in each")
    for name, vector in vectors.items():
        bad = np.flatnonzero(~(np.isfinite(vector) & (vector > 0)))
        if bad.size:
            rows = ", ".join(f"row {i} is {vector[i]}" for i in bad[:5]) + (", …" if bad.size > 5 else "")
            raise ValueError(f"{name} must be positive and finite, but {rows}; drop or repair these runs")
    return tuple(vectors.values())
