"""What can be asked of a study of runs: a budget's optimum, which form to trust, a profile, the next run, files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from isoflop import laws
from isoflop.cli.study import Answer, Study
from isoflop.cli.tables import aligned, plain
from isoflop.laws.fitting.comparison import compare_fits
from isoflop.laws.fitting.prediction import prediction
from isoflop.planning.shape import human

if TYPE_CHECKING:
    from isoflop.report.law_figures.files import Format

SHOWN = 10  # candidates on the screen
BEYOND = 3.0  # times the largest budget, where candidates are offered by default
Reading = dict[str, laws.Prediction]


def at_budgets(study: Study, budgets: Sequence[float]) -> Answer:
    """What surface and minima say of each budget, side by side, and whether they agree."""
    told = [at_budget(study, C) for C in budgets]
    return Answer("\n\n".join(answer.text for answer in told), {"at": [answer.data for answer in told]})


def at_budget(study: Study, C: float) -> Answer:
    """What each method says of one budget. Raises ValueError when none of them says anything."""
    readings: dict[str, Reading] = {}
    if study.isoflop is not None:
        readings["IsoFLOP minima"] = read_minima(study.isoflop, C)
    trouble = ""
    try:
        name = type(study.fit.law).__name__
        readings[f"surface ({name})" if isinstance(study.fit.law, laws.LossSurface) else name] = read_law(study, C)
    except ValueError as error:
        trouble = str(error)
        if not readings:
            raise
    statement = trouble
    if len(readings) == 2 and isinstance(study.fit.law, laws.LossSurface) and study.isoflop is not None:
        statement = compare_fits(cast("laws.Fit[laws.LossSurface]", study.fit), study.isoflop, C).statement
    rows = [(f"at C = {C:.4g}", *readings)]
    rows += [(name, *(_said(name, r.get(name)) for r in readings.values())) for name in ("N*", "D*", "D*/N*")]
    rows += [("loss", *(_said("loss", r["loss"]) for r in readings.values()))]
    rows += [("one run's loss", *(_range("loss", r["loss"].interval) for r in readings.values()))]
    data = {name: {key: _json(p) for key, p in reading.items()} for name, reading in readings.items()}
    text = "\n".join([aligned(rows, indent=""), *([statement] if statement else [])])
    return Answer(text, {"C": C, "methods": data, "statement": statement})


def read_minima(isoflop: laws.IsoFLOPAnalysis, C: float) -> Reading:
    """The minima's laws at C."""
    N, D, ratios = isoflop.params_at(C), isoflop.tokens_at(C), isoflop.draw_tokens(C) / isoflop.draw_params(C)
    per = prediction(float(D.value / N.value), ratios, ratios, N.level)
    return {"N*": N, "D*": D, "D*/N*": per, "loss": isoflop.loss_at(C)}


def read_law(study: Study, C: float) -> Reading:
    """The fitted law at C: its optimum, or for a law of C alone its loss. Raises ValueError for other laws."""
    if study.fit.bound.recipe.variables == ("x",):
        if study.x != "C":
            raise ValueError(f"a law of {study.x} alone says nothing of a budget; fit one of C or of N and D")
        return {"loss": study.fit.predict(C)}
    best = study.fit.optimal(C)
    return {"N*": best.N, "D*": best.D, "D*/N*": best.tokens_per_parameter, "loss": best.loss}


def validate(validation: laws.Validation) -> Answer:
    """The roll-forward table."""
    text = f"rolled forward: every budget from the third on as the largest seen\n{validation}"
    return Answer(text, {"validation": validation.to_json()})


def profiles(found: Sequence[laws.Profile]) -> Answer:
    """Profile intervals of parameters."""
    told = [{"name": p.name, "best": p.best, "interval_95": p.interval(), "freedom": p.freedom} for p in found]
    return Answer("\n".join(map(str, found)), {"profiles": told})


def next_run(study: Study, target: float, budgets: Sequence[float]) -> Answer:
    """Rank the runs that could be done at some budgets by what they would leave of the interval of N* at the target."""
    largest = float(study.fit.runs.C.max())
    N, D = laws.candidates_at(np.array(budgets or (largest, BEYOND * largest)), study.fit)
    ranked = laws.rank_candidates(study.fit, N, D, target)
    rows = [("N", "D", "C", "interval left")]
    rows += [(human(c.N), human(c.D), f"{c.C:.3g}", f"{c.width:.1%}") for c in ranked[:SHOWN]]
    head = f"which run next, to narrow N* at C = {target:.4g}: the best {len(rows) - 1} of {len(ranked)}"
    return Answer(f"{head}\n{aligned(rows)}", {"next": {"target": target, "candidates": [vars(c) for c in ranked]}})


def figures(
    study: Study,
    folder: Path,
    suffix: Format,
    C: float | None,
    validation: laws.Validation | None,
    found: Sequence[laws.Profile],
) -> Answer:
    """Draw all that there is."""
    from isoflop.report.law_figures import write_figures

    paths = write_figures(folder, study.fit, study.isoflop, C=C, validation=validation, profiles=found, suffix=suffix)
    return Answer("\n".join(f"figure: {path}" for path in paths), {"figures": list(map(str, paths))})


def save(study: Study, path: Path) -> Answer:
    """Write the law, to be read again with ``Law.from_json``."""
    from isoflop.files import write_bytes

    write_bytes(path, (json.dumps(study.fit.law.to_json(), indent=1) + "\n").encode())
    return Answer(f"law: {path}", {"saved": str(path)})


def document(answers: Sequence[Answer]) -> str:
    """All answers as one JSON document; what has no finite value is null."""
    found: dict[str, Any] = {}
    for answer in answers:
        found |= answer.data
    return json.dumps(plain(found), indent=1)


def _said(name: str, p: laws.Prediction | None) -> str:
    return "" if p is None else f"{_number(name, p.value)} ({_range(name, p.confidence)})"


def _range(name: str, bounds: tuple[Any, Any]) -> str:
    return f"{_number(name, bounds[0])} to {_number(name, bounds[1])}"


def _number(name: str, value: Any) -> str:
    return human(float(value)) if name in ("N*", "D*") else f"{value:.4g}"


def _json(p: laws.Prediction) -> dict[str, Any]:
    return {"value": p.value, "interval_95": p.confidence, "one_run_95": p.interval}
