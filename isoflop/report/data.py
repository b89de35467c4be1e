"""Everything the page shows, read from an experiment's directory into one frozen value.

Nothing is computed here that another room computes: the laws come from ``sweeps.fit``, the prediction from the plan
that was written before training, the verdict from ``score.json``. Whatever is not there yet is None or empty. Costs
the fit (a second or two) and one pass over every run's metrics (some microseconds a step). Left out: a cache, because
the directory is the only record.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop import config as configuration
from isoflop.laws.fitting.parabola import Curve, fit_curve
from isoflop.sweeps.fit import Fit, fit_results
from isoflop.sweeps.grid import SweepConfig
from isoflop.sweeps.results import Results, read_results
from isoflop.training.config import TrainConfig
from isoflop.training.run import Run

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class History:
    """A run's metrics as columns, one entry a step; ``validation`` has rows of tokens and loss."""

    tokens: Array
    loss: Array
    rate: Array
    batch: Array
    seconds: Array
    validation: Array


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run that has begun. ``summary`` is None until it is finished.

    ``start`` is the token it began from and ``seconds`` its own training time: a branch counts neither the tokens nor
    the time of its trunk.
    """

    name: str
    config: TrainConfig
    summary: dict[str, Any] | None
    history: History
    start: int
    seconds: float

    @property
    def end(self) -> int:
        """Tokens consumed so far, the trunk's included."""
        return int(self.history.tokens[-1]) if self.history.tokens.size else self.start

    @property
    def flops(self) -> float:
        """FLOPs this run added, as 6·N·D with N = ``matmul``."""
        return 6.0 * self.config.shape.matmul * (self.end - self.start)

    @property
    def flops_exact(self) -> float:
        """The same with attention counted."""
        return self.config.flops_exact(self.start, self.end)


@dataclass(frozen=True, eq=False)
class Dossier:
    """An experiment as its directory tells it. ``unfit`` says why there is no fit, when there is none."""

    name: str
    settings: str
    request: dict[str, Any]
    sweep: SweepConfig | None
    results: Results
    runs: tuple[RunRecord, ...]
    fit: Fit | None
    unfit: str
    plan: dict[str, Any] | None
    flagship: RunRecord | None
    score: dict[str, Any] | None
    samples: tuple[tuple[str, str], ...]
    seconds: float | None

    @property
    def budgets(self) -> tuple[float, ...]:
        """The sweep's budgets, ascending."""
        return tuple(sorted(self.sweep.budgets)) if self.sweep else ()

    @property
    def statuses(self) -> tuple[str, ...]:
        """What should be known about the laws: as written with the plan, and as the fit says now."""
        said = [*(self.plan or {}).get("statuses", ()), *(self.fit.statuses if self.fit else ())]
        return tuple(dict.fromkeys(said))

    @property
    def curves(self) -> tuple[Curve, ...]:
        """One parabola per budget that has a finished cell, whether or not laws could be fitted to their minima."""
        if self.fit is not None and self.fit.isoflop is not None:
            return self.fit.isoflop.curves
        r, N = self.results, self.results.parameters("matmul")
        masks = {float(budget): r.budgets == budget for budget in np.unique(r.budgets)}
        return tuple(fit_curve(budget, N[here], r.tokens[here], r.loss[here]) for budget, here in masks.items())

    def budget_index(self, budget: float) -> int:
        """The place of a budget among the sweep's, which decides its colour."""
        return int(np.argmin(np.abs(np.log(np.array(self.budgets) / budget))))


def read_dossier(folder: Path) -> Dossier:
    """Read the experiment in ``folder``. Raises ValueError when there is none."""
    settings, sweep_file = folder / "experiment.toml", folder / "sweep" / "sweep.toml"
    if not settings.exists() and not sweep_file.exists():
        raise ValueError(f"{folder} holds no experiment: it has neither experiment.toml nor sweep/sweep.toml")
    text = (settings if settings.exists() else sweep_file).read_text(encoding="utf-8")
    request = tomllib.loads(text).get("request", {})
    sweep = configuration.load(SweepConfig, sweep_file) if sweep_file.exists() else None
    results = read_results(folder / "sweep") if sweep else Results((), 0)
    fit, unfit = try_fit(results, int(request.get("seed", 0)))
    time = read_json(folder / "time.json")
    return Dossier(
        name=folder.resolve().name,
        settings=text,
        request=request,
        sweep=sweep,
        results=results,
        runs=tuple(read_runs(folder / "sweep")),
        fit=fit,
        unfit=unfit,
        plan=read_json(folder / "flagship" / "plan.json"),
        flagship=read_flagship(folder / "flagship"),
        score=read_json(folder / "score.json"),
        samples=tuple((s["prompt"], s["text"]) for s in read_json(folder / "flagship" / "samples.json") or ()),
        seconds=time and float(time["seconds"]),
    )


def read_json(path: Path) -> Any:
    """A JSON file's value, or None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def try_fit(results: Results, seed: int) -> tuple[Fit | None, str]:
    """The laws of the finished cells, or the sentence that says why they give none."""
    if not results.rows:
        return None, "no cell of the sweep is finished yet"
    try:
        return fit_results(results, seed=seed), ""
    except ValueError as error:
        return None, str(error)


def read_runs(sweep: Path) -> Iterator[RunRecord]:
    """The sweep's runs that have begun, each named by its path below the sweep."""
    histories: dict[Path, History] = {}
    for path in sorted(file.parent for file in sweep.glob("*/*/config.toml")):
        histories[path] = read_history(Run(path))
    for path, history in histories.items():
        config, start, before = Run(path).config, 0, 0.0
        if config.branch is not None:
            start = config.branch.tokens
            trunk = histories.get(Path(os.path.normpath(path / config.branch.parent)))
            before = seconds_at(trunk, start) if trunk else 0.0
        seconds = float(history.seconds[-1]) - before if history.seconds.size else 0.0
        yield RunRecord(str(path.relative_to(sweep)), config, Run(path).summary, history, start, max(seconds, 0.0))


def read_flagship(folder: Path) -> RunRecord | None:
    """The planned run, once it has a config."""
    if not (folder / "config.toml").exists():
        return None
    run, history = Run(folder), read_history(Run(folder))
    seconds = float(history.seconds[-1]) if history.seconds.size else 0.0
    return RunRecord("flagship", run.config, run.summary, history, 0, seconds)


def read_history(run: Run) -> History:
    """A run's metrics as columns, its last validation taken from the summary."""
    lines, summary = run.metrics(), run.summary
    names = ("tokens", "loss", "learning_rate", "batch_tokens", "seconds")
    tokens, loss, rate, batch, seconds = (np.array([line[name] for line in lines], float) for name in names)
    validation = [(line["tokens"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    if summary is not None:
        validation.append((summary["tokens"], summary["validation_loss"]))
    return History(tokens, loss, rate, batch, seconds, np.array(validation, float).reshape(-1, 2))


def seconds_at(history: History, tokens: int) -> float:
    """Training time a run had taken when it had consumed ``tokens``."""
    passed = history.seconds[history.tokens <= tokens]
    return float(passed[-1]) if passed.size else 0.0
