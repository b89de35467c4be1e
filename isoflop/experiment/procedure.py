"""The procedure: prepare, sweep, fit, plan, train, score, report. Each step leaves files and is skipped once they
are there.

An experiment is a directory:

    experiment.toml      what was asked, and everything derived from it
    tokens/              tokenizer, shards, manifest
    sweep/               one run directory per cell
    fit.json             the laws
    flagship/plan.json   the plan and its prediction, written before the flagship's first step and never after
    flagship/            the planned run
    score.json           prediction against measurement
    report.html

The same command therefore resumes wherever it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop import config as configuration
from isoflop.experiment.score import score
from isoflop.experiment.settings import Experiment, Request, resolve
from isoflop.files import locked, write_json, write_text
from isoflop.planning.from_sweep import SweepPlan, plan_from_sweep
from isoflop.planning.recipe import recipe
from isoflop.progress import Report, silent
from isoflop.sweeps.executor import run_sweep
from isoflop.sweeps.fit import Fit, fit_results
from isoflop.sweeps.grid import SweepConfig, cells
from isoflop.sweeps.results import read_results
from isoflop.tokens.manifest import Manifest
from isoflop.tokens.prepare import prepare
from isoflop.training.config import TrainConfig

MOST_EPOCHS = 4.0
"""Repetitions of the corpus that still count nearly as fresh text (Muennighoff et al. 2023)."""


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to."""

    folder: Path
    verdict: str
    score: dict[str, Any]
    report: Path


def run_experiment(request: Request, folder: Path, report: Report = silent) -> Outcome:
    """Run the whole procedure in ``folder``, or go on with it.

    Raises ValueError for a corpus or budget that cannot be used, Interrupted when stopped (the same call goes on).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        if not (folder / "score.json").exists():
            with timed(folder / "time.json"):
                steps(request, folder, report)
        resolve(request, folder, report)  # refuses a folder that was asked for differently
        page = write_report(folder)
    result = json.loads((folder / "score.json").read_text())
    return Outcome(folder, result["verdict"], result, page)


def steps(request: Request, folder: Path, report: Report) -> None:
    """All steps up to the score."""
    experiment = resolve(request, folder, report)
    manifest = prepare(experiment.prepare, folder / "tokens", report)
    check_corpus(experiment.sweep, manifest)
    run_sweep(experiment.sweep, folder / "sweep", report)
    fit = fit_results(read_results(folder / "sweep"), seed=experiment.request.seed)
    write_json(folder / "fit.json", fit.to_json())
    flagship = plan_flagship(experiment, fit, manifest, folder / "flagship")
    train_flagship(flagship, folder / "flagship", report)
    write_samples(folder / "flagship", experiment.request.corpus)
    write_json(folder / "score.json", score(folder / "flagship"))


@contextmanager
def timed(path: Path) -> Iterator[None]:
    """Add the wall time spent inside to the seconds in a file, however it ends short of a kill."""
    began, before = time.monotonic(), json.loads(path.read_text())["seconds"] if path.exists() else 0.0
    try:
        yield
    finally:
        write_json(path, {"seconds": round(before + time.monotonic() - began, 1)})


def check_corpus(sweep: SweepConfig, manifest: Manifest) -> None:
    """Refuse a corpus that the sweep would have to repeat too often."""
    have = manifest.splits["train"].tokens
    need = max(cell.tokens for cell in cells(sweep))
    if need > MOST_EPOCHS * have:
        raise ValueError(
            f"the corpus is too small for the budget: the sweep's longest run wants {need:,.0f} tokens and the corpus "
            f"gives {have:,} ({need / have:.1f} passes over it; {MOST_EPOCHS:.0f} is the most that still counts as "
            f"fresh). Give more text, or a budget of about {(MOST_EPOCHS * have / need) ** 2:.0%} of this one"
        )


def plan_flagship(experiment: Experiment, fit: Fit, manifest: Manifest, folder: Path) -> TrainConfig:
    """Write the plan and the config of the run that will test it, unless they are there already."""
    if not (folder / "plan.json").exists():
        sweep = experiment.sweep
        chosen = plan_from_sweep(
            experiment.budget, fit.surfaces, fit.isoflop, sweep.vocab, sweep.context, seed=sweep.seed
        )
        epochs = chosen.tokens / manifest.splits["train"].tokens
        if epochs > MOST_EPOCHS:
            raise ValueError(
                f"the corpus is too small for the plan: {chosen.tokens:,.0f} tokens are {epochs:.1f} passes over it; "
                f"give more text, or a smaller budget"
            )
        folder.mkdir(parents=True, exist_ok=True)
        config = flagship_config(chosen, experiment)
        write_text(folder / "config.toml", configuration.dumps(config))
        record = chosen.to_json() | {"epochs": epochs, "statuses": list(fit.statuses), "written": time.time()}
        write_json(folder / "plan.json", record)
    return configuration.load(TrainConfig, folder / "config.toml")


def flagship_config(chosen: SweepPlan, experiment: Experiment) -> TrainConfig:
    """The planned run under the very rules the sweep's runs obeyed."""
    shape, sweep = chosen.shape, experiment.sweep
    run = recipe(shape, chosen.tokens, first_batch=sweep.first_batch, rate_factor=sweep.rate_factor)
    more = {"seed": sweep.seed, "validate_times": 20, "validation_tokens": sweep.validation_tokens}
    return configuration.from_dict(TrainConfig, run.config(shape, "../tokens", **more))


def train_flagship(config: TrainConfig, folder: Path, report: Report) -> None:
    """Train the planned model with all of this machine: its GPU, or one process per processor."""
    if (folder / "summary.json").exists():
        return
    from isoflop.training.launch import train_here

    train_here(config, folder, report)


def write_samples(folder: Path, corpus: str) -> None:
    """Let the flagship write a few texts, once."""
    if (folder / "samples.json").exists():
        return
    from isoflop.inference.sample import sample_texts

    prompts = ["", "def ", "class "] if corpus == "python" else ["", "The ", "In the year "]
    write_json(folder / "samples.json", sample_texts(folder, prompts))


def write_report(folder: Path) -> Path:
    """Write the report and return its path."""
    from isoflop.report.page import write_page

    return write_page(folder)
