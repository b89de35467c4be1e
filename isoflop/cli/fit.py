"""``isoflop fit``: the laws that runs obey, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.cli.study import Answer, Study

DESCRIPTION = """Fits a scaling law to runs: CSV files with columns for two of N, D and C and for the loss (the usual
names are known), and directories of runs. Prints the law with 95% intervals, and the minima of the IsoFLOP curves where
the runs share budgets. A sweep's directory is fitted under both conventions of N.

examples:
  isoflop fit runs.csv
  isoflop fit sweeps/a --at 1e15 --json
  isoflop fit chinchilla.csv --drop-largest 5 --at 5.76e23 --profile beta
  isoflop fit a.csv b.csv --columns N=size,loss=c4_loss --form powered-sum --save law.json
  isoflop fit runs.csv --form saturating-power-law --x C --at 1e24
  isoflop fit runs.csv --validate --next 1e24 --candidates 1e21,3e21 --figures figures/
"""

LEAST_VALIDATED, MOST_VALIDATED = 20, 300  # bootstrap replicates of each of a validation's many fits
Form = Literal[
    "auto",
    "chinchilla",
    "over-training",
    "powered-sum",
    "kaplan",
    "power-law",
    "saturating-power-law",
    "data-constrained",
]
Numbers = Annotated[tuple[str, ...], tyro.conf.arg(metavar="C[,C...]"), tyro.conf.UseAppendAction]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[,NAME...]"), tyro.conf.UseAppendAction]
Columns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="N=NAME[,loss=NAME...]"), tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop fit``.

    Attributes:
        runs: CSV files and directories of runs; or one sweep's directory.
        form: The law to fit; auto is chinchilla, and for a sweep the form that predicts its own larger budgets best.
        columns: Which column is N, D, C, U (unique tokens) or loss.
        x: The variable of the forms of one variable.
        drop_largest: Leave out so many runs of the highest loss.
        drop_outliers: Leave out the runs that lie over 5 deviations from a first fit.
        delta: Huber's δ, in log loss: larger residuals weigh linearly.
        replicates: Bootstrap replicates; 0 for no intervals.
        seed: Seed of the bootstrap.
        at: Budgets in FLOPs at which to read the best N and D and the loss.
        validate: Hold out the largest budgets, and see which form would have predicted them.
        profile: Parameters whose profile likelihood to give.
        next: Budget in FLOPs of the model that is to be planned: which run would tell most about its size?
        candidates: Budgets in FLOPs of runs that could be done next; by default the largest, and 3 times it.
        figures: Folder to draw figures into.
        format: Format of the figures.
        save: File to write the law to, as JSON.
        json: Print everything as one JSON document; an end of an interval that is open is null.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    form: Form = "auto"
    columns: Columns = ()
    x: Literal["N", "D", "C"] = "C"
    drop_largest: int = 0
    drop_outliers: bool = False
    delta: float = 1e-3
    replicates: int = 1000
    seed: int = 0
    at: Numbers = ()
    validate: bool = False
    profile: Names = ()
    next: float | None = None
    candidates: Numbers = ()
    figures: Path | None = None
    format: Literal["png", "svg", "pdf"] = "png"
    save: Path | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop fit", description=DESCRIPTION)
    if not a.runs:
        raise ValueError("no runs are given; name CSV files or directories of runs, as in: isoflop fit runs.csv")
    from isoflop.cli.answers import document

    refuse(a)
    answers = answer(a, study(a))
    if a.json:
        print(document(list(answers)))
        return
    for place, part in enumerate(answers):  # as soon as each is known
        print(("\n" if place else "") + part.text, flush=True)


def refuse(a: Arguments) -> None:
    """Say before any work is done what cannot be answered."""
    if (a.at or a.next is not None) and not a.replicates:
        raise ValueError("--at and --next give intervals, which --replicates 0 leaves out; give at least 20")
    if (a.at or a.next is not None) and a.form == "data-constrained":
        raise ValueError("data-constrained has no optimum without its unique tokens: leave --at and --next out")
    if a.candidates and a.next is None:
        raise ValueError("--candidates are for --next BUDGET, which says what is to be decided; give both")


def study(a: Arguments) -> Study:
    """Read and fit the runs: as a sweep where they are one and nothing is asked that a sweep's own laws do not have."""
    from isoflop import laws
    from isoflop.cli.study import Request, study_runs, study_sweep

    plain = not (a.columns or a.drop_largest or a.drop_outliers) and a.delta == Arguments.delta and a.form == "auto"
    if len(a.runs) == 1 and (a.runs[0] / "sweep.toml").exists() and plain:
        return study_sweep(a.runs[0], a.replicates, a.seed)
    form = laws.Law.forms()["chinchilla" if a.form == "auto" else a.form]()
    options = (a.x, a.drop_largest, a.drop_outliers, a.delta, a.replicates, a.seed)
    return study_runs(a.runs, pairs(a.columns), Request(form, *options))


def answer(a: Arguments, found: Study) -> Iterator[Answer]:
    """All that was asked, in the order of a screen."""
    from isoflop import laws
    from isoflop.cli import answers

    at = numbers("--at", a.at)
    profiles = [laws.profile(found.fit, name) for name in parts(a.profile)]
    fewer = min(MOST_VALIDATED, a.replicates or LEAST_VALIDATED)
    validation = laws.validate(found.fit.runs, replicates=fewer, seed=a.seed) if a.validate else None
    yield found.opening
    if at:
        yield answers.at_budgets(found, at)
    if validation is not None:
        yield answers.validate(validation)
    if profiles:
        yield answers.profiles(profiles)
    if a.next is not None:
        yield answers.next_run(found, a.next, numbers("--candidates", a.candidates))
    if a.figures is not None:
        reach = max([*at, *([a.next] if a.next else [])], default=None)
        yield answers.figures(found, a.figures, a.format, reach, validation, profiles)
    if a.save is not None:
        yield answers.save(found, a.save)


def parts(given: tuple[str, ...]) -> list[str]:
    """What stands between commas, over all repetitions of an option."""
    return [part.strip() for text in given for part in text.split(",") if part.strip()]


def numbers(option: str, given: tuple[str, ...]) -> list[float]:
    """Budgets of an option. Raises ValueError for what is not a number."""
    found = []
    for part in parts(given):
        try:
            found.append(float(part))
        except ValueError:
            raise ValueError(f"{option} takes budgets in FLOPs, such as 1e22, not {part!r}") from None
    return found


def pairs(given: tuple[str, ...]) -> dict[str, str]:
    """Columns by symbol. Raises ValueError for what is not a pair."""
    found = dict(part.partition("=")[::2] for part in parts(given))
    for symbol, name in found.items():
        if not name:
            raise ValueError(f"--columns takes pairs such as N=size,loss=c4_loss, not {symbol!r}")
    return found
