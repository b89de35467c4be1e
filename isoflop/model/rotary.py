"""Rotary position embeddings in transformers' half-split layout, with Llama 3.1's stretch for long contexts.

Tables are made in fp64 and kept in fp32: at position 100,000 an angle that was itself rounded to fp32, as in the
released code, is off by up to 0.004 radians. One for 131,072 positions and heads of 128 takes half a second.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isoflop.planning.rope import RopeScaling


def rotary_table(
    context: int, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position × frequency, each (context, head_dim / 2), fp32."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    if scaling is not None:
        frequencies = stretched(frequencies, scaling)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Frequencies (radians a token) as ``scaling`` slows them: kept, divided by its factor, or between the two."""
    turns = scaling.original * frequencies / (2 * math.pi)  # within the original context
    kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of x (batch, time, heads, head_dim) by the angles of positions, (time, head_dim / 2), or those
    of every row, (batch, time, head_dim / 2)."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)
