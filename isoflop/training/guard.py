"""A guard against steps that would ruin a run: those whose loss or gradient is no number, or far from what it was.

Such a step is skipped: its tokens are consumed, its gradient is not. After several in a row, or when the loss stays
high although no step alone is conspicuous, skipping does not help: then the run goes back to an earlier checkpoint's
weights and goes on behind the data of the spike (``training.rewind``), which is what PaLM's training did by hand
(Chowdhery et al. 2022, arXiv 2204.02311, section 5.1).

A step is far out when its loss or its gradient's norm lies more than ``threshold`` deviations above the median of the
last ``window`` calm steps; OLMo-core's SkipStepOptimizer takes 6 standard deviations above the mean of 128 steps. The
median deviation is used instead, and only calm steps are remembered, so that neither a NaN nor a spike moves what is
normal. The memory is emptied where the batch, context or mixture changes, which shifts it for good reason. All of it is
plain numbers in the checkpoint, and the same on every rank, since loss and norm are.

Costs nothing without a threshold; with one, four medians of ``window`` numbers a step, about 50 μs.
Off by default but for numbers that are none, so that no healthy run changes. Left out: other signs than the two.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Verdict = Literal["step", "skip", "rewind"]
NORMAL = 1.4826
"""Standard deviations of a normal distribution in its median deviation."""
FLOOR = 1e-3
"""The least deviation, as a share of the median: values that hardly differ must not make the next one conspicuous."""


@dataclass(frozen=True)
class Guard:
    """What a guard takes for a spike, and what it may do.

    Attributes:
        skips: so many steps skipped in a row end the run, or make it go back where it may.
        threshold: deviations above the median from which a step is skipped; 0 skips only what is no number.
        window: calm steps that median and deviation are of; until there are as many, only what is no number is skipped.
        high: deviations of the loss above the median from which it is called high, which skips nothing.
        patience: so many steps in a row with a high loss make the run go back.
        margin: steps before the first high one from which on no weights are trusted.
        rewinds: how often a run may go back; then it goes on, and ends where loss or gradient stay no number.
    """

    skips: int = 3
    threshold: float = 0.0
    window: int = 128
    high: float = 4.0
    patience: int = 32
    margin: int = 16
    rewinds: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        if self.skips < 1 or self.window < 8 or self.patience < 1 or self.margin < 0 or self.rewinds < 0:
            raise ValueError(
                f"a guard needs skips and patience of 1 and a window of 8 or more, and nothing below 0: {self}"
            )
        if self.threshold and not 0 < self.high <= self.threshold:
            raise ValueError(f"guard.high ({self.high}) must be above 0 and at most guard.threshold ({self.threshold})")


class Rewind(NamedTuple):
    """The tokens from ``to`` to ``until`` count for nothing: the weights are ``to``'s, the data goes on behind them."""

    to: int
    until: int


@dataclass
class Sentry:
    """A guard at work: what was normal of late, how long it has not been, and how often the run went back."""

    config: Guard
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    regime: str = ""
    skipped: int = 0
    high: int = 0
    began: int = -1
    rewinds: list[Rewind] = field(default_factory=list)

    def judge(self, consumed: int, loss: float, norm: float, regime: Hashable) -> Verdict:
        """What to do with the step after ``consumed`` tokens. In another ``regime`` than the last it learns anew."""
        if self.regime != repr(regime):
            self.forget()
            self.regime = repr(regime)
        height = self.heights(loss, norm)
        out = not (math.isfinite(loss) and math.isfinite(norm)) or max(height) > (self.config.threshold or math.inf)
        if not out and height[0] <= self.config.high:
            self.remember(loss, norm)
            return "step"
        if not self.high:
            self.began = consumed
        self.skipped, self.high = (self.skipped + 1 if out else 0), self.high + 1
        if self.skipped >= self.config.skips or self.high >= self.config.patience:
            return "rewind"
        return "skip" if out else "step"

    def heights(self, loss: float, norm: float) -> tuple[float, float]:
        """How many deviations loss and norm lie above their medians; 0 while too little is known."""
        if not self.config.threshold or len(self.losses) < self.config.window:
            return 0.0, 0.0
        return height(loss, self.losses), height(norm, self.norms)

    def remember(self, loss: float, norm: float) -> None:
        """Take a calm step into the window."""
        self.skipped = self.high = 0
        if self.config.threshold:
            self.losses = [*self.losses, loss][-self.config.window :]
            self.norms = [*self.norms, norm][-self.config.window :]

    def forget(self) -> None:
        """Begin to learn anew what is normal."""
        self.losses, self.norms, self.skipped, self.high, self.began = [], [], 0, 0, -1

    @property
    def left(self) -> int:
        """How often the run may still go back."""
        return self.config.rewinds - len(self.rewinds)

    def trusted(self, consumed: int, batch: int) -> int:
        """The tokens up to which weights are trusted, ``consumed`` tokens into the run, at batches of ``batch``."""
        return (self.began if self.high else consumed) - self.config.margin * batch

    def gone_back(self, rewind: Rewind, before: Sequence[Rewind]) -> None:
        """Note a return, the state being the older one that was returned to: ``before`` are those before it."""
        self.rewinds = [*before, rewind]
        self.skipped, self.high, self.began = 0, 0, -1

    def void(self, tokens: int) -> bool:
        """Whether the weights that were reached at ``tokens`` tokens have been given up since."""
        return any(rewind.to < tokens < rewind.until for rewind in self.rewinds)

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def record(self) -> dict[str, Any]:
        """Everything but the config."""
        state = {key: value for key, value in asdict(self).items() if key != "config"}
        return state | {"rewinds": [list(rewind) for rewind in self.rewinds]}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Take up the state."""
        for key, value in record.items():
            setattr(self, key, value)
        self.rewinds = [Rewind(*pair) for pair in record["rewinds"]]


def height(value: float, window: Sequence[float]) -> float:
    """How many robust standard deviations ``value`` lies above the median of the window."""
    median = statistics.median(window)
    deviation = NORMAL * statistics.median(abs(known - median) for known in window)
    return (value - median) / max(deviation, FLOOR * abs(median), 1e-12)
