"""The gradient noise scale: how large a batch still pays, read off the norms of gradients at two batch sizes.

A gradient averaged over B examples has E|G_B|² = |G|² + tr Σ / B, with G the true gradient and Σ the covariance of one
example's. Two batch sizes make two equations, whose solution is unbiased for |G|² and for tr Σ; their quotient
B_simple = tr Σ / |G|² is not, as single steps are noisy, so both terms are averaged over time first and divided last.
Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1.

With data-parallel workers the small batch costs nothing: it is one worker's, and ``small_norm2`` the mean over workers.
B_simple comes in the unit of the batch sizes, examples or tokens.

Left out: B_noise, which weighs the noise by the Hessian, and the trade-off of steps against tokens that B_simple
predicts (the critical batch size, beside Kaplan's laws).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace


def gradient_noise(small_norm2: float, big_norm2: float, small_batch: float, big_batch: float) -> tuple[float, float]:
    """Estimate tr Σ and |G|², both without bias, from the squared gradient norms at two batch sizes.

    A single estimate may be negative. Raises ValueError unless 0 < small_batch < big_batch.
    """
    if not 0 < small_batch < big_batch < math.inf:
        raise ValueError(f"batch sizes of {small_batch} and {big_batch}: the first must be positive and the smaller")
    trace = (small_norm2 - big_norm2) / (1 / small_batch - 1 / big_batch)
    squared_gradient = (big_batch * big_norm2 - small_batch * small_norm2) / (big_batch - small_batch)
    return trace, squared_gradient


@dataclass(frozen=True)
class NoiseScale:
    """Running means of tr Σ and |G|², the state of a measurement; ``update`` gives the next.

    The means are exponential, a step's weight falling by ``decay`` with every later step, and corrected for their
    beginning: after one update they are that update's. With ``decay=1`` they are plain means over all steps.
    ``weight`` is the total weight so far, 1/(1 − decay) in the end: the number of steps that speak.
    """

    decay: float = 0.99
    weight: float = 0.0
    trace: float = 0.0
    squared_gradient: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}; give a number above 0 and at most 1, such as 0.99")

    def update(self, small_norm2: float, big_norm2: float, small_batch: float, big_batch: float) -> NoiseScale:
        """Take in one step's squared gradient norms; batch sizes may differ from step to step.

        Norms that are not finite are left out: one overflow would otherwise stay in the means. Raises ValueError
        for batch sizes that are not in order.
        """
        trace, squared = gradient_noise(small_norm2, big_norm2, small_batch, big_batch)
        if not math.isfinite(trace + squared):
            return self
        weight = self.decay * self.weight + 1
        return replace(
            self,
            weight=weight,
            trace=self.trace + (trace - self.trace) / weight,
            squared_gradient=self.squared_gradient + (squared - self.squared_gradient) / weight,
        )

    @property
    def simple(self) -> float:
        """B_simple = tr Σ / |G|²; NaN while the steps so far do not tell both from zero (a mean is not positive)."""
        known = self.trace > 0 and self.squared_gradient > 0
        return self.trace / self.squared_gradient if known else math.nan

    def to_json(self) -> dict[str, float]:
        """Give a dict that ``json`` can write, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> NoiseScale:
        """Read what :meth:`to_json` wrote. Raises ValueError for missing, unknown or non-numeric entries."""
        wanted = [field.name for field in fields(cls)]
        numbers = {name: value for name, value in data.items() if isinstance(value, int | float) and name in wanted}
        if set(data) != set(wanted) or len(numbers) != len(wanted) or not all(map(math.isfinite, numbers.values())):
            raise ValueError(f"a noise scale has the finite numbers {', '.join(wanted)}; the data is {dict(data)!r}")
        return cls(**{name: float(value) for name, value in numbers.items()})
