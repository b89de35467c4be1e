"""Products with weight matrices, which may have a low-rank addition: W + B·A (Hu et al. 2021, arXiv 2106.09685).

The addition is applied to the activations, B·(A·x) beside W·x, so that W + B·A is never made and a frozen W has no
gradient: training does 4 of the 6 multiplications a weight that full training does, and 6·r·(in + out) more a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Adapted(NamedTuple):
    """A matrix (out, in) and its addition: ``down`` (rank, in), then ``up`` (out, rank), scaled already."""

    weight: Tensor
    down: Tensor
    up: Tensor


Matrix = Tensor | Adapted


def product(x: Tensor, matrix: Matrix) -> Tensor:
    """x (…, in) times the matrix, transposed, in x's type: (…, out)."""
    if isinstance(matrix, Adapted):
        weight, down, up = (part.to(x.dtype) for part in matrix)
        return F.linear(x, weight) + F.linear(F.linear(x, down), up)
    return F.linear(x, matrix.to(x.dtype))


def whole(matrix: Matrix) -> Tensor:
    """The matrix with its addition, as one tensor; without any, itself."""
    if isinstance(matrix, Adapted):
        return matrix.weight + (matrix.up @ matrix.down).to(matrix.weight.dtype)
    return matrix
