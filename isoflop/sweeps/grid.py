"""The IsoFLOP grid: which model sizes meet which compute budgets, and the runs that fill the cells.

Two ways to fill a grid. ``plain``: one cosine run per cell. ``branch``: each size trains one trunk at constant rate,
and at every budget a branch leaves it and decays over the last tenth of that budget's tokens (Hägele et al. 2024), so
the trunk is paid once. All the runs of one size form a column, which one worker trains in order; a compiled graph
then serves the whole column. A cell's budget is nominal: tokens are rounded up to whole batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from isoflop.planning.hyperparameters import DECAY_FRACTION, batch_ramp, peak_learning_rate, warmup_tokens
from isoflop.planning.ladder import shape_for, smallest
from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.training.config import Branch, TrainConfig

Method = Literal["branch", "plain"]
OVERHEAD_PARAMETERS = 150_000
"""Parameters whose arithmetic takes as long as the overheads of a token on a CPU thread (docs/lab.md)."""


@dataclass(frozen=True)
class SweepConfig:
    """An IsoFLOP sweep.

    Attributes:
        budgets: FLOPs of each IsoFLOP curve, C = 6·N·D with N = ``matmul`` parameters.
        data: folder of prepared tokens, relative to the sweep's directory or absolute.
        vocab: vocabulary of those tokens.
        centre: tokens per parameter around which each budget's sizes are laid.
        reach: how far, as a factor in size, the grid reaches to either side of the centre.
        spacing: ratio between neighbouring sizes.
        method: trunk and branches, or one cosine run per cell.
        rate_factor: multiplies the rule's learning rate, for studies of it.
    """

    budgets: tuple[float, ...]
    data: str
    vocab: int
    context: int = 256
    centre: float = 40.0
    reach: float = 2.6
    spacing: float = 1.45
    method: Method = "branch"
    first_batch: int = 1024
    decay_fraction: float = DECAY_FRACTION
    rate_factor: float = 1.0
    validation_tokens: int = 131_072
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a grid that cannot hold a curve."""
        if not self.budgets or min(self.budgets) <= 0:
            raise ValueError(f"a sweep needs budgets above 0 FLOPs, not {self.budgets}")
        if self.reach <= 1 or self.spacing <= 1:
            raise ValueError(f"reach and spacing are factors above 1, not {self.reach} and {self.spacing}")


@dataclass(frozen=True)
class Cell:
    """One point of the grid: a shape trained with a budget."""

    PREFIX: ClassVar[str] = "C"

    shape: Shape
    budget: float

    @property
    def tokens(self) -> float:
        """Tokens that spend the budget, C / 6N."""
        return self.budget / (6 * self.shape.matmul)

    @property
    def name(self) -> str:
        """The directory of the cell's run inside its column."""
        return f"{self.PREFIX}{self.budget:.6g}"


@dataclass(frozen=True)
class Column:
    """All the runs of one size: directory names relative to the sweep, and configs, in the order to train them."""

    name: str
    shape: Shape
    runs: tuple[tuple[str, TrainConfig], ...]

    @property
    def flops(self) -> float:
        """FLOPs the column costs, a branch's trunk part not counted twice."""
        return sum(run_flops(config) for _, config in self.runs)

    @property
    def effort(self) -> float:
        """What the column takes in relative time: a token costs its FLOPs and an overhead worth so many parameters."""
        return self.flops * (1 + OVERHEAD_PARAMETERS / self.shape.matmul)


def run_flops(config: TrainConfig) -> float:
    """FLOPs that a run adds: from its branch point, if it is a branch, to its end."""
    start = config.branch.tokens if config.branch else 0
    return 6.0 * config.shape.matmul * (config.schedule.tokens - start)


def sizes(config: SweepConfig) -> list[Shape]:
    """The ladder's members that the budgets ask for, ascending, ``spacing`` apart."""
    middle = [(budget / 6 / config.centre) ** 0.5 for budget in config.budgets]
    largest = max(middle) * config.reach
    shapes: dict[int, Shape] = {}
    target = max(min(middle) / config.reach, smallest(config.vocab, context=config.context).matmul)
    while target <= largest * 1.01:
        shape = shape_for(target, config.vocab, context=config.context)
        shapes[shape.matmul] = shape
        target *= config.spacing
    return [shapes[n] for n in sorted(shapes)]


def cells(config: SweepConfig) -> list[Cell]:
    """The grid: for each budget the sizes within ``reach`` of its centre."""
    found = []
    for budget in config.budgets:
        middle = (budget / 6 / config.centre) ** 0.5
        reach = config.reach * config.spacing**0.5
        found += [Cell(s, budget) for s in sizes(config) if middle / reach <= s.matmul <= middle * reach]
    return found


def columns(config: SweepConfig) -> list[Column]:
    """The runs that fill the grid, one column per size, the longest first."""
    grid = cells(config)
    by_size = {shape: [c for c in grid if c.shape == shape] for shape in dict.fromkeys(c.shape for c in grid)}
    build = branch_runs if config.method == "branch" else plain_runs
    found = [Column(shape.name, shape, tuple(build(config, shape, mine))) for shape, mine in by_size.items()]
    return sorted(found, key=lambda column: -column.effort)


def plain_runs(config: SweepConfig, shape: Shape, mine: list[Cell]) -> Iterator[tuple[str, TrainConfig]]:
    """One cosine run per cell, to a tenth of the peak as Llama 1 has it."""
    for cell in mine:
        base = base_config(config, shape, cell.tokens)
        tokens = base.batch.align(cell.tokens)
        warmup = int(warmup_tokens(shape.matmul, tokens, config.first_batch))
        schedule = Schedule(tokens, base.schedule.peak, warmup, 0, "cosine", 0.1)
        yield f"{shape.name}/{cell.name}", replace_schedule(base, schedule)


def branch_runs(config: SweepConfig, shape: Shape, mine: list[Cell]) -> Iterator[tuple[str, TrainConfig]]:
    """A trunk, then a decaying branch per cell, both configs agreeing up to the branch point."""
    longest = max(cell.tokens for cell in mine)
    base = base_config(config, shape, longest)
    warmup = int(warmup_tokens(shape.matmul, min(cell.tokens for cell in mine), config.first_batch))
    points = {cell: base.batch.align(cell.tokens * (1 - config.decay_fraction)) for cell in mine}
    trunk = Schedule(max(points.values()), base.schedule.peak, warmup)
    yield f"{shape.name}/trunk", replace_schedule(base, trunk, keep=tuple(sorted(points.values())), validate_times=1)
    for cell, start in points.items():
        tokens = max(base.batch.align(cell.tokens), start + base.batch.at(start))
        schedule = Schedule(tokens, base.schedule.peak, warmup, tokens - start)
        branch = Branch(str(Path("..") / "trunk"), start)
        yield f"{shape.name}/{cell.name}", replace_schedule(base, schedule, branch=branch, validate_times=1)


def base_config(config: SweepConfig, shape: Shape, tokens: float) -> TrainConfig:
    """What all the runs of a size share; data is two folders up from a run's directory."""
    peak = peak_learning_rate(shape.matmul) * config.rate_factor
    data = config.data if Path(config.data).is_absolute() else str(Path("../..") / config.data)
    return TrainConfig(
        shape=shape,
        data=data,
        schedule=Schedule(max(1, int(tokens)), peak),
        batch=BatchRamp(*batch_ramp(1e15, config.first_batch)),
        seed=config.seed,
        validation_tokens=config.validation_tokens,
    )


def replace_schedule(base: TrainConfig, schedule: Schedule, **changes: object) -> TrainConfig:
    """A config with another schedule."""
    return replace(base, schedule=schedule, **changes)  # type: ignore[arg-type]
