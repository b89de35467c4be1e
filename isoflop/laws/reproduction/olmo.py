"""OLMo's ladder (Bhagia et al. 2024, arXiv 2412.04403): the scores of a 13B model from models of 190M to 1.3B.

The 16 runs (4 sizes, 1 to 10 times Chinchilla's tokens) give both steps. First, the task's loss, bits per byte of
the correct answer averaged over a run's last five evaluations, as a Chinchilla surface of (N, D), Huber with
δ = 1e-3 on log losses. Second, the score, accuracy by length-normalised likelihood, as a sigmoid of that loss
through the running means (five, or all so far) of every evaluation but a run's first tenth, and through a perfect
score at zero loss. The target is OLMo 2 13B on 5T tokens, again averaged over five evaluations. MMLU is the mean of
its four groups by their share of the questions. A variant has C in place of (N, D), a power law with a floor;
another the loss on C4 in place of the task's.

All of these are reproduced: the losses to eight digits, the scores as far as the authors' ``curve_fit`` goes, which
stops at a relative 1e-8 of the objective, some 1e-6 of a score from its optimum.

Not checked: the relative errors by C, which are not those of the two columns beside them. The variant with the
cross-entropy of the answers, whose published numbers are not optima: its first step was searched with A ≥ 1 and
B ≥ 1, which binds for five of eight tasks (MMLU 1.3247; 1.3121 without, and a lower objective), its second, a
log-sigmoid, stopped up to .012 short of the optimum (ARC-Easy). Accuracies fitted directly to (N, D), which ended on
one constant for four tasks.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..fitting.fit import Fit, fit
from ..fitting.score import ScoreFit, fit_score
from ..forms.chinchilla import Chinchilla
from ..forms.downstream import TwoStep
from ..forms.law import Array, Law
from ..forms.power import SaturatingPowerLaw
from .check import Check

SOURCE = "Bhagia et al. 2024"
WINDOW = 5  # evaluations averaged
SKIPPED = 0.1  # of a run's evaluations, at its start
MMLU = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
C4 = {"eval/c4_en-validation/CrossEntropyLoss": 1.0}
EXACT, OPTIMUM, STOPPED = 1e-12, 1e-7, 5e-6  # averages; the same optimum; curve_fit's distance from it

Measure = Mapping[str, float]
"""A quantity of an evaluation: the columns it averages, with their weights."""

Quantity = tuple[str, str, str, float]
"""Where the authors print a number (table, column), what it is, and how far off its recomputation may be."""


@dataclass(frozen=True, eq=False)
class Run:
    """One model's evaluations over training, in order: N parameters, and the tokens D and exact FLOPs C at the end."""

    N: float
    D: float
    C: float
    rows: list[dict[str, str]]

    def series(self, measure: Measure) -> Array:
        """Give the measure at every evaluation, shape (evaluations,)."""
        columns = np.array([[float(row[name]) for name in measure] for row in self.rows])
        return np.average(columns, axis=1, weights=list(measure.values()))

    def final(self, measure: Measure) -> float:
        """Average the measure over the last evaluations."""
        return float(self.series(measure)[-WINDOW:].mean())

    def path(self, measure: Measure) -> Array:
        """Give the measure's running mean, without the start of training."""
        kept = self.series(measure)[int(np.ceil(SKIPPED * len(self.rows))) :]
        return np.array([kept[max(0, i + 1 - WINDOW) : i + 1].mean() for i in range(kept.size)])


def task_loss(task: str) -> Measure:
    """Bits per byte of the correct answer."""
    return _measure(task, "eval/downstream_bpb/{}_rc_5shot_bpb")


def accuracy(task: str) -> Measure:
    """How often the correct answer is the likeliest for its length."""
    return _measure(task, "eval/downstream/{}_rc_5shot_len_norm")


def read_ladder(folder: Path) -> tuple[list[Run], Run]:
    """Read the runs of the ladder and the target from the olmo-ladder folder."""
    models = json.loads((folder / "final.json").read_text())
    ladder = [_read_run(folder, m, path) for m in models.values() if m["mode"] == "train" for path in m["paths"]]
    return ladder, _read_run(folder, models["13B-5T"], models["13B-5T"]["paths"][0])


def fit_loss(runs: list[Run], measure: Measure, form: Law, *, replicates: int = 0) -> Fit[Law]:
    """Fit the first step: a law of (N, D), or of C."""
    table = {name: [getattr(run, name) for run in runs] for name in ("N", "D", "C")}
    losses = [run.final(measure) for run in runs]
    return fit({**table, "loss": losses}, form, x=None if isinstance(form, Chinchilla) else "C", replicates=replicates)


def fit_accuracy(runs: list[Run], loss: Measure, task: str, *, perfect: bool = True, replicates: int = 0) -> ScoreFit:
    """Fit the second step; ``perfect`` adds a perfect score at zero loss. Each run is a group."""
    losses, scores = [run.path(loss) for run in runs], [run.path(accuracy(task)) for run in runs]
    groups = np.repeat(np.arange(len(runs)), [path.size for path in losses])
    x, y = np.concatenate(losses), np.concatenate(scores)
    if perfect:
        x, y, groups = np.append(x, 0.0), np.append(y, 1.0), np.append(groups, len(runs))
    return fit_score(x, y, groups=groups, replicates=replicates)


def checks(folder: Path) -> list[Check]:
    """Recompute what the authors print of the 13B model, from folder/"olmo-ladder"."""
    folder = folder / "olmo-ladder"
    runs, target = read_ladder(folder)
    tasks = list(_printed(folder, "chained_main"))
    by_c4 = _chain(runs, C4, tasks[0], Chinchilla()).loss(target.N, target.D)
    found = [Check(SOURCE, "C4 loss predicted", _printed(folder, "step1_c4_main")[tasks[0]]["Pred"], by_c4, OPTIMUM)]
    for task in tasks:
        for (table, column, what, tolerance), value in _recomputed(runs, target, task).items():
            printed = _printed(folder, table)[task][column]
            found.append(Check(SOURCE, f"{task}, {what}", printed, value, tolerance))
    return found


def _recomputed(runs: list[Run], target: Run, task: str) -> dict[Quantity, float]:
    loss, score = target.final(task_loss(task)), target.final(accuracy(task))
    chain, by_C = (_chain(runs, task_loss(task), task, form) for form in (Chinchilla(), SaturatingPowerLaw()))
    predicted = chain.predict(target.N, target.D)
    at_C4 = fit_accuracy(runs, C4, task).law(target.final(C4))
    return {
        ("step1_main", "Actual", "task loss", EXACT): loss,
        ("step1_main", "Pred", "task loss predicted", OPTIMUM): chain.loss(target.N, target.D),
        ("step2_main", "Actual", "accuracy", EXACT): score,
        ("step2_main", "Pred", "accuracy at the actual task loss", STOPPED): float(chain.second(loss)),
        ("step2_c4_main", "Pred", "accuracy at the actual C4 loss", STOPPED): float(at_C4),
        ("chained_main", "Pred", "accuracy predicted", STOPPED): predicted,
        ("chained_main", "Rel Error", "error of the prediction", STOPPED / score): abs(predicted / score - 1),
        ("chained_flops_main", "Pred", "accuracy predicted by C", STOPPED): by_C.predict(target.C),
    }


def _chain(runs: list[Run], loss: Measure, task: str, form: Law) -> TwoStep:
    return TwoStep(fit_loss(runs, loss, form).law, fit_accuracy(runs, loss, task).law)


def _measure(task: str, column: str) -> Measure:
    name = task.removesuffix("_5shot")
    if name == "mmlu_avg_test":
        return {column.format(f"mmlu_{group}_test"): share for group, share in MMLU.items()}
    return {column.format(name): 1.0}


def _read_run(folder: Path, model: dict[str, Any], path: str) -> Run:
    rows = list(csv.DictReader((folder / "ladder-runs" / Path(path).name).read_text().splitlines()))
    last = rows[-1]
    counted = "throughput/total_tokens" in last
    D = float(last["throughput/total_tokens"]) if counted else int(last["_step"]) * float(last["batch_size_in_tokens"])
    return Run(N=model["n"], D=D, C=model["flops"] * D, rows=rows)


def _printed(folder: Path, table: str) -> dict[str, dict[str, float]]:
    """Read a table of the authors' by task."""
    rows = csv.DictReader((folder / f"{table}.csv").read_text().splitlines())
    return {row.pop("Task"): {column: float(value) for column, value in row.items()} for row in rows}
