"""What a person asks for, and what follows from it: sizes, budgets, vocabulary, how much of the corpus to read.

The answer is written to ``experiment.toml`` once. It depends on a measurement of the machine's speed, so a resumed
experiment reads it back instead of deciding again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isoflop import config as configuration
from isoflop.experiment.budget import FIXED_SECONDS, flagship_seconds, sweep_budgets, sweep_seconds
from isoflop.files import write_text
from isoflop.planning.hyperparameters import context_for, first_batch_for, vocabulary_for
from isoflop.processors import processors, ranks_for
from isoflop.progress import Report
from isoflop.sweeps.grid import SweepConfig, cells
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.prepare import PrepareConfig
from isoflop.training.speed import Speed

CENTRE = 40.0
"""Tokens per parameter around which the sweep is laid."""
BYTES_PER_TOKEN = 3.5
"""More than small vocabularies give, so that enough text is read."""
ENCODING_BYTES_PER_SECOND = 3e6


@dataclass(frozen=True)
class Request:
    """What was asked for. ``budget`` (FLOPs of the flagship) wins over ``minutes`` of this machine's time."""

    corpus: str = "python"
    minutes: float = 10.0
    budget: float | None = None
    vocab: int | None = None
    context: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.minutes <= 0 or (self.budget is not None and self.budget <= 0):
            raise ValueError(f"time and budget must be above 0, not {self.minutes} minutes and {self.budget} FLOPs")


@dataclass(frozen=True)
class Experiment:
    """A request with everything that follows from it."""

    request: Request
    budget: float
    prepare: PrepareConfig
    sweep: SweepConfig
    expected_seconds: float


def resolve(request: Request, folder: Path, report: Report) -> Experiment:
    """Read the experiment of ``folder``, or derive it and write it down.

    Raises ValueError when the folder holds an experiment that was asked for differently.
    """
    path = folder / "experiment.toml"
    if path.exists():
        experiment = configuration.load(Experiment, path)
        if changed := configuration.difference(experiment.request, request):
            raise ValueError(f"{folder} holds another experiment ({changed}); use another --out, or the old value")
        return experiment
    folder.mkdir(parents=True, exist_ok=True)
    report("speed", 0.0, 1.0)
    speed = measure_speed(folder / "speed.json", request.vocab or 512, request.context or 128)
    report("speed", 1.0, 1.0)
    experiment = derive(request, request.budget, speed) if request.budget else largest(request, speed)
    write_text(path, configuration.dumps(experiment))
    return experiment


def largest(request: Request, speed: Speed) -> Experiment:
    """The experiment with the largest budget that fits the minutes, on a grid of √2 in FLOPs."""
    fitting, refused = None, ValueError(f"{request.minutes:g} minutes are too few")
    for half_doublings in range(100):
        budget = 1e13 * 2 ** (half_doublings / 2)
        try:
            candidate = derive(request, budget, speed)
        except ValueError as error:
            refused = error
            continue
        if candidate.expected_seconds > 60 * request.minutes:
            if fitting is None:
                raise ValueError(
                    f"{request.minutes:g} minutes are too few on this machine: the smallest experiment takes about "
                    f"{candidate.expected_seconds / 60:.0f}; give --minutes {candidate.expected_seconds / 60 + 1:.0f}"
                )
            return fitting
        fitting = candidate
    if fitting is None:
        raise refused
    return fitting


def derive(request: Request, budget: float, speed: Speed) -> Experiment:
    """Everything that follows from a request and a flagship budget."""
    vocab, context = request.vocab or vocabulary_for(budget), request.context or context_for(budget)
    first = first_batch_for(context)
    budgets = sweep_budgets(budget, vocab, context, CENTRE, first)
    sweep = SweepConfig(
        budgets, "../tokens", vocab, context=context, centre=CENTRE, first_batch=first, seed=request.seed
    )
    tokens = max([cell.tokens for cell in cells(sweep)] + [1.5 * (budget / 6 * CENTRE) ** 0.5])
    prepare = PrepareConfig(
        corpus=request.corpus,
        vocab_size=vocab,
        validation_fraction=0.02,
        max_bytes=int(tokens * BYTES_PER_TOKEN),
        seed=request.seed,
    )
    workers = len(processors())
    seconds = (
        FIXED_SECONDS
        + (prepare.max_bytes or 0) / ENCODING_BYTES_PER_SECOND
        + sweep_seconds(sweep, speed, workers)
        + flagship_seconds(budget, CENTRE, speed, ranks_for(first // context))
    )
    return Experiment(request, budget, prepare, sweep, round(seconds, 1))
