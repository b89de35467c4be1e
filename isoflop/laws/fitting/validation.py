"""Would the small runs have predicted the large ones? Hold out the largest budgets, fit the rest, and look.

    >>> print(validate(runs))

Rolling forward, every budget from the third on takes its turn as the largest one that may be seen; each form is fitted
to the runs up to it and predicts every run beyond. The table says how far off, in which direction, and how often the
95% prediction intervals held the truth. This is the one test that a form's own bootstrap cannot pass by being sure
of itself. The minima of the IsoFLOP curves (:func:`~.isoflop.analyse`) compete where the runs have curves: their law is
judged at the held-out curves' own minima.

Cost: a fit with 300 replicates for every form and budget, some seconds in all. Left out: random hold-outs, which ask
about interpolation and flatter every form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..forms.chinchilla import Chinchilla
from ..forms.law import Index, Law
from .budgets import Budgets, group_budgets
from .fit import fit
from .isoflop import analyse
from .parabola import fit_curve
from .recipes import variables_of
from .runs import Runs, read_runs

MINIMA = "IsoFLOP minima"
TRUSTED = 0.85  # coverage below which intervals are warned of
LEAST_BUDGETS = 3  # fewer cannot tell a floor from a slope


@dataclass(frozen=True)
class Holdout:
    """One form, fitted up to one budget, against one larger: errors are log(predicted/measured) per run."""

    form: str
    largest_seen: float
    held_out: float
    errors: tuple[float, ...]
    covered: tuple[bool, ...]

    @property
    def reach(self) -> float:
        """How many times the largest budget seen."""
        return self.held_out / self.largest_seen


@dataclass(frozen=True)
class Score:
    """A form over all hold-outs: mean error (its sign says which way), mean size of error, coverage; and at the end.

    ``last`` is the mean error at the largest budget of all, seen from the second largest: the extrapolation most like
    the one that is wanted.
    """

    form: str
    bias: float
    error: float
    coverage: float
    last: float
    predictions: int


@dataclass(frozen=True, eq=False, repr=False)
class Validation:
    """Every hold-out and every form's score, best first; ``statuses`` say what was left out and why."""

    holdouts: tuple[Holdout, ...]
    scores: tuple[Score, ...]
    statuses: tuple[str, ...]

    @property
    def best(self) -> str:
        """The form with the smallest mean error."""
        return self.scores[0].form

    def __repr__(self) -> str:
        return f"Validation[{len(self.scores)} forms, {self.best} best: {self.scores[0].error:.2%} off on average]"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"scores": [vars(s) for s in self.scores], "best": self.best, "statuses": list(self.statuses)}

    def __str__(self) -> str:
        head = f"{'form':<20} {'mean error':>10} {'bias':>8} {'95% held':>9} {'last budget':>12} {'predictions':>12}"
        rows = [
            f"{s.form:<20} {s.error:>10.2%} {s.bias:>+8.2%} {s.coverage:>9.0%} {s.last:>+12.2%} {s.predictions:>12}"
            for s in self.scores
        ]
        return "\n".join([head, *rows, *(f"note: {status}" for status in self.statuses)])


def validate(
    runs: Any,
    forms: Sequence[Law | type[Law]] = (),
    *,
    replicates: int = 300,
    seed: int = 0,
    columns: dict[str, str] | None = None,
) -> Validation:
    """Roll forward over budgets of increasing size; ``forms`` are of N and D, by default all that can be fitted.

    Raises ValueError when the runs have too few budgets to hold any out.
    """
    table = read_runs(runs, columns=columns)
    budgets = group_budgets(table.C)
    if len(budgets.values) <= LEAST_BUDGETS:
        raise ValueError(
            f"the runs have {len(budgets.values)} budgets; holding one out takes at least {LEAST_BUDGETS + 1}"
        )
    laws = [form() if isinstance(form, type) else form for form in forms or competing_forms()]
    holdouts, statuses = [], list(budgets.notes)
    for law in laws:
        try:
            holdouts += list(_roll(law, table, budgets, replicates, seed))
        except ValueError as error:
            statuses.append(f"{_name(law)} is left out: {error}")
    if budgets.are_curves:
        holdouts += list(_roll_minima(table, budgets, replicates, seed, statuses))
    names = dict.fromkeys(h.form for h in holdouts)
    scores = sorted((_score(name, [h for h in holdouts if h.form == name]) for name in names), key=lambda s: s.error)
    if not scores:
        raise ValueError(f"no form could be fitted and held out: {'; '.join(statuses)}")
    return Validation(tuple(holdouts), tuple(scores), (*statuses, *_verdicts(scores)))


def competing_forms() -> list[Law]:
    """Every form of N and D that can be fitted to runs, blank."""
    from .recipes import RECIPES

    return [form() for form in RECIPES if variables_of(form()) == ("N", "D")]


def _name(form: Law) -> str:
    """A form as it competes: by its name, and by what it holds."""
    held = ", ".join(f"{name}={value:g}" for name, value in form.parameters().items() if name not in form.blanks())
    return f"{type(form).__name__}({held})" if held else type(form).__name__


def _steps(budgets: Budgets) -> Iterator[tuple[float, Index]]:
    """Each largest seen budget with the indices of those beyond."""
    for seen in range(LEAST_BUDGETS, len(budgets.values)):
        yield float(budgets.values[seen - 1]), np.arange(seen, len(budgets.values))


def _roll(form: Law, runs: Runs, budgets: Budgets, replicates: int, seed: int) -> Iterator[Holdout]:
    for largest, beyond in _steps(budgets):
        fitted = fit(runs.take(budgets.of < beyond[0]), form, replicates=replicates, seed=seed)
        for later in beyond:
            rows = np.flatnonzero(budgets.of == later)
            told = fitted.predict(runs.N[rows], runs.D[rows])
            yield _holdout(_name(form), largest, budgets.values[later], told.value, told.interval, runs.loss[rows])


def _roll_minima(runs: Runs, budgets: Budgets, replicates: int, seed: int, statuses: list[str]) -> Iterator[Holdout]:
    for largest, beyond in _steps(budgets):
        seen = runs.take(budgets.of < beyond[0])
        C = budgets.values[budgets.of[budgets.of < beyond[0]]]
        try:
            analysis = analyse(C, seen.N, seen.D, seen.loss, replicates=replicates, seed=seed)
        except ValueError as error:
            statuses.append(f"{MINIMA} up to C = {largest:.3g}: {error}")
            continue
        for later in beyond:
            rows = budgets.of == later
            curve = fit_curve(float(budgets.values[later]), runs.N[rows], runs.D[rows], runs.loss[rows])
            if curve.usable:
                told = analysis.loss_at(curve.budget)
                yield _holdout(MINIMA, largest, curve.budget, told.value, told.interval, curve.loss_star)


def _holdout(form: str, largest: float, held_out: float, value: Any, interval: Any, measured: Any) -> Holdout:
    value, low, high, measured = np.broadcast_arrays(*(np.atleast_1d(v) for v in (value, *interval, measured)))
    covered = tuple(bool(c) for c in (low <= measured) & (measured <= high))
    return Holdout(form, largest, float(held_out), tuple(np.log(value / measured).tolist()), covered)


def _score(form: str, holdouts: Sequence[Holdout]) -> Score:
    """Every pair of budgets counts the same, however many runs it has."""
    means = [float(np.mean(h.errors)) for h in holdouts]
    last = max(holdouts, key=lambda h: (h.held_out, h.largest_seen))
    return Score(
        form=form,
        bias=float(np.mean(means)),
        error=float(np.mean([np.mean(np.abs(h.errors)) for h in holdouts])),
        coverage=float(np.mean([np.mean(h.covered) for h in holdouts])),
        last=float(np.mean(last.errors)),
        predictions=sum(len(h.errors) for h in holdouts),
    )


def _verdicts(scores: Sequence[Score]) -> list[str]:
    best = scores[0]
    said = [f"{best.form} predicts best: {best.error:.2%} off on average"]
    said += [
        f"{score.form}: its 95% intervals held {score.coverage:.0%} of the held-out losses; do not trust them far out"
        for score in scores
        if score.coverage < TRUSTED
    ]
    chinchilla = next((s for s in scores if s.form == Chinchilla.__name__), None)
    if chinchilla is not None and chinchilla.error > 2 * best.error:
        said.append(f"Chinchilla's surface is {chinchilla.error / best.error:.1f} times as far off here")
    return said
