"""What a law says, in the planner's terms: the best size for a budget and the loss anywhere, each with its doubt.

A published law, the laws of a sweep and a law in a file answer the same questions here, so that the planner does not
know which of them it listens to. N is counted as the law counts it (``counts``), and C = 6·N·D with that N. Limited
data make any of them data-constrained (:mod:`.repetition`). Costs a fraction of a second. Left out: the doubt about
whether a form holds at all, which only other laws beside it and a measured run can show.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.laws import (
    LIBRARY,
    LLAMA3_TOKENS,
    Chinchilla,
    Entry,
    Fit,
    IsoFLOPAnalysis,
    Law,
    LossSurface,
    PowerLaw,
)
from isoflop.laws.fitting.prediction import noise_factors
from isoflop.laws.forms.chinchilla import compute_optimal
from isoflop.planning.from_sweep import answering, optimum_draws, plan_from_sweep, pool
from isoflop.planning.repetition import drawn_worth, fed, worth
from isoflop.planning.shape import Convention

Draws = NDArray[np.float64]
DRAWS = 300
RUNS_BEHIND = 200  # degrees of freedom of a published law's residual scatter: that of hundreds of runs


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, which is None where nothing is known of it."""

    value: float
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, value: float, draws: Draws | None) -> Estimate:
        """From a value and draws of it."""
        if draws is None or not np.isfinite(draws).any():
            return cls(value)
        low, high = np.nanquantile(draws[np.isfinite(draws)], [0.025, 0.975])
        return cls(value, (min(float(low), value), max(float(high), value)))


@dataclass(frozen=True)
class Evidence(ABC):
    """One law, or the laws of one sweep.

    ``surface`` weighs sizes off the optimum; it is None for a law that knows only the optimum. ``meaning`` is what its
    N, D and C are and whose loss it is, ``counts`` which parameters its N counts, ``verified`` whether its constants
    were checked.
    """

    name: str
    meaning: str
    counts: Convention
    verified: bool
    surface: LossSurface | None

    @abstractmethod
    def optimum(self, C: float) -> float:
        """The compute-optimal N for C FLOPs. Raises ValueError when the law has none."""

    @abstractmethod
    def draw_optimum(self, C: float) -> Draws | None:
        """Draws of it, or None where nothing is known of its doubt."""

    def best_size(self, C: float) -> Estimate:
        """The compute-optimal N with its interval."""
        return Estimate.of(self.optimum(C), self.draw_optimum(C))

    @abstractmethod
    def draw_losses(self, N: float, D: Draws) -> Draws | None:
        """Draws of the loss of one run of N parameters on D fresh tokens, one for each entry of D."""

    def remarks(self, C: float) -> tuple[str, ...]:
        """What should be known of this law before its answer to C is believed."""
        said = () if self.verified else (f"the constants of {self.name} were not verified",)
        if self.surface is None:
            return (*said, f"{self.name} says how many tokens a budget wants, and nothing of the loss")
        if self.draw_optimum(C) is None:
            return (*said, f"no interval is known for {self.name}: the spread between laws is the honest one")
        return said

    def loss(self, N: float, D: float, unique: float = math.inf) -> Estimate | None:
        """The loss of one run, of whose D tokens ``unique`` are different ones; None where the law knows no loss."""
        if self.surface is None:
            return None
        params = float(fed(self.surface, N, D, unique))
        drawn = self.draw_losses(params, drawn_worth(D, unique, DRAWS))
        return Estimate.of(self.limited(N, D, unique), drawn)

    def limited(self, N: float, D: float, unique: float) -> float:
        """The loss without its interval, where only ``unique`` of the tokens are different."""
        assert self.surface is not None
        return self.point(float(fed(self.surface, N, D, unique)), float(worth(D, unique)))

    def point(self, N: float, D: float) -> float:
        """The loss without its interval, for fresh tokens."""
        assert self.surface is not None
        return float(self.surface.loss(N, D))


@dataclass(frozen=True)
class Published(Evidence):
    """A published law: of N and D, or of the best tokens for a budget, D*(C), which knows no loss.

    It has intervals where the library knows its joint uncertainty.
    """

    entry: Entry
    seed: int = 0

    @cached_property
    def laws(self) -> list[Law]:
        """Draws of the law; none where its uncertainty is not known."""
        return self.entry.draw(DRAWS, self.seed) if self.entry.uncertainty else []

    def optimum(self, C: float) -> float:
        """The law's own."""
        return best_size(self.entry.law, C)

    def draw_optimum(self, C: float) -> Draws | None:
        """Those of the drawn laws."""
        if not self.laws:
            return None
        if isinstance(self.entry.law, Chinchilla):  # all at once: a plan asks several times
            return compute_optimal(np.array([list(law.parameters().values()) for law in self.laws]), C)[0]
        return np.array([best_size(law, C) for law in self.laws])

    def draw_losses(self, N: float, D: Draws) -> Draws | None:
        """Each drawn law at its own D, with the scatter of a run."""
        uncertainty = self.entry.uncertainty
        if uncertainty is None or uncertainty.residual_sd is None:
            return None
        surfaces = [law for law in self.laws if isinstance(law, LossSurface)]
        means = np.array([float(law.loss(N, d)) for law, d in zip(surfaces, D, strict=True)])
        return means * noise_factors(uncertainty.residual_sd, RUNS_BEHIND, DRAWS, self.seed)


def best_size(law: Law, C: float) -> float:
    """The compute-optimal N of a law of N and D, or of one of D*(C)."""
    if isinstance(law, LossSurface):
        return law.optimal(C).N
    assert isinstance(law, PowerLaw)
    return C / 6 / float(law(C))


@dataclass(frozen=True)
class Given(Evidence):
    """A law from a file that ``isoflop fit --save`` wrote: no intervals, because a law alone has none."""

    def optimum(self, C: float) -> float:
        """The law's own."""
        assert self.surface is not None
        return self.surface.optimal(C).N

    def draw_optimum(self, C: float) -> None:
        """None are known."""

    def draw_losses(self, N: float, D: Draws) -> None:
        """None are known."""


@dataclass(frozen=True)
class Swept(Evidence):
    """The laws of a sweep: its surface and the minima of its IsoFLOP curves, half of the draws from each.

    The minima know the loss at an optimum; off it, the surface's price for being there is added.
    """

    surfaces: Mapping[Convention, Fit[LossSurface]]
    isoflop: IsoFLOPAnalysis | None
    statuses: tuple[str, ...]
    vocab: int
    context: int
    seed: int = 0

    @property
    def fitted(self) -> Fit[LossSurface]:
        """The surface in the budgets' convention of N."""
        return self.surfaces["matmul"]

    def optimum(self, C: float) -> float:
        """The middle of both methods' draws."""
        return float(np.median(self.draw_optimum(C)))

    def draw_optimum(self, C: float) -> Draws:
        """Both methods' draws, pooled."""
        return pool(optimum_draws(self.fitted, self.isoflop, C))

    def remarks(self, C: float) -> tuple[str, ...]:
        """What each method says alone, whether the plan hinges on how N is counted, and the statuses of the fits."""
        alone = plan_from_sweep(C, self.surfaces, self.isoflop, self.vocab, self.context, seed=self.seed)
        return (*map(str, alone.readings), alone.hinges, *self.statuses)

    def draw_losses(self, N: float, D: Draws) -> Draws:
        """Both methods' draws, pooled."""
        tokens, surface = float(np.median(D)), self.fitted.surface
        draws = {"surface": self.fitted.draw_losses(N, tokens, seed=self.seed)}
        if self.isoflop is not None:
            C = 6 * N * tokens
            price = float(surface.loss(N, tokens)) - surface.optimal(C).loss
            draws["IsoFLOP"] = self.isoflop.draw_losses(C, self.seed) + price
        return pool(answering(draws))

    def point(self, N: float, D: float) -> float:
        """The middle of the pool, which is what the sweep predicts."""
        return float(np.median(self.draw_losses(N, np.array([D]))))


def swept(
    surfaces: Mapping[Convention, Fit[LossSurface]],
    isoflop: IsoFLOPAnalysis | None,
    statuses: tuple[str, ...],
    vocab: int,
    context: int,
    seed: int = 0,
) -> Swept:
    """A sweep's laws as evidence; N is ``matmul``, which is the convention of its budgets."""
    meaning = "your own runs: N with the head, without the input embedding; loss on your validation text"
    surface = surfaces["matmul"].surface
    return Swept("sweep", meaning, "matmul", True, surface, surfaces, isoflop, statuses, vocab, context, seed)


DEFAULT = "BESIROGLU_2024"
"""The verified surface whose joint uncertainty is known."""


def published(seed: int = 0) -> dict[str, Evidence]:
    """Every published law that says how to spend a budget, by name."""
    found: dict[str, Evidence] = {}
    for name, entry in LIBRARY.items():
        surface = entry.law if isinstance(entry.law, LossSurface) else None
        if surface is not None or entry.law is LLAMA3_TOKENS:
            counts = entry.counts or "total"
            found[name] = Published(name, entry.meaning, counts, entry.verified, surface, entry, seed)
    return found


def evidence(law: str, seed: int = 0) -> Evidence:
    """The law that a person means: a name of the library, or part of one, or a JSON file that ``isoflop fit`` saved.

    Raises ValueError, with the names there are, for anything else.
    """
    known = published(seed)
    if not law.strip():
        raise ValueError(f"a law has a name; give one of {', '.join(known)}")
    wanted = law.upper().replace("-", "_")
    near = [name for name in known if wanted in name.replace("_", "") or wanted in name]
    if wanted in known or len(near) == 1:
        return known[wanted if wanted in known else near[0]]
    if law.endswith(".json"):
        return read_law(Path(law))
    said = f"{law!r} could be {', '.join(near)}" if near else f"there is no law {law!r}"
    raise ValueError(f"{said}; give one of {', '.join(known)}, or a file that isoflop fit --save wrote")


def read_law(path: Path) -> Given:
    """A law of N and D from a JSON file. Raises ValueError for another file, or a law of something else."""
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a law: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no law: it must be an object with a kind and its parameters")
    law = Law.from_json(values)
    if not isinstance(law, LossSurface):
        raise ValueError(f"{path} holds a {type(law).__name__}, which is not a law of N and D; a plan needs one")
    return Given(path.name, "as given", "matmul", True, law)
