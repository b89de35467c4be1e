"""``isoflop plan``: what to train with a budget, what it costs, and whether it fits."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from isoflop.planning.evidence import Evidence
    from isoflop.planning.machine import Machine
    from isoflop.planning.planner import Plan, Question

DESCRIPTION = """Plans a model for a budget: parameters, tokens and predicted loss with its interval, the price of being
off the optimum, real layers, a schedule, the hardware it fits on, time and money. Without a sweep the laws are
published ones, fitted to other people's data; their spread is shown.

A budget is FLOPs (3.8e25), PF-days, devices and time ("64 H100 x 30 days"), device-hours, money ("$10000 of H100"), or
a time on this machine ("10 minutes here", after --calibrate).

examples:
  isoflop plan 3.8e25
  isoflop plan 3.8e25 --law llama3 --have 15.6T --epochs 1        Llama 3's own case
  isoflop plan "64 H100 x 30 days" --serve 2T                     a smaller model, because serving it costs too
  isoflop plan '$20000 of H100' --fits "RTX 4090" --fits-in int4  the largest model that a card will hold
  isoflop plan 1e22 --params 8B --candidates                      a given size; every shape and why it was dropped
  isoflop plan --calibrate                                        measure this machine, once
  isoflop plan "10 minutes here" --data tokens/ --out runs/mine   write config.toml; then: isoflop train runs/mine
  isoflop plan 1e14 --sweep runs/quickstart/sweep --json
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop plan``. Numbers may be written 15.6T, 8B, 400M or 1e12.

    Attributes:
        budget: What there is to spend.
        law: A published law's name or part of it, or a file that isoflop fit --save wrote.
        sweep: Directory of the sweep whose laws to use instead.
        have: Different tokens at hand.
        epochs: Passes over them at most.
        serve: Tokens to be served over the model's life; the budget then pays for training and serving.
        fits: A device, or memory such as "24 GB", that must hold the model for inference.
        fits_in: Type of the weights there: bf16, int8 or int4.
        params: A given size, all parameters counted.
        tokens: Given training tokens.
        context: Tokens the model sees at once; by default it grows with the budget.
        long_context: What the context grows to before annealing.
        vocab: Vocabulary; by default it grows with the budget, or is that of the data.
        device: What to train on, a name of the catalogue, or "here".
        devices: How many of them; by default the fewest that fit.
        mfu: Share of the devices' peak to assume, in percent, instead of the estimate.
        price: Dollars per device-hour, instead of the catalogue's assumption.
        data: Folder that isoflop prepare made: gives vocabulary and tokens at hand, and is what the config trains on.
        out: Directory to write config.toml and plan.json to.
        figures: Directory to write the plan's figures to.
        candidates: Print every candidate shape and why it was dropped.
        calibrate: Measure this machine (some minutes, alone on it) and remember it.
        seed: Seed of every draw.
        json: Print as JSON.
    """

    budget: tyro.conf.Positional[str | None] = None
    law: str | None = None
    sweep: Path | None = None
    have: str | None = None
    epochs: float = 4.0
    serve: str | None = None
    fits: str | None = None
    fits_in: str = "bf16"
    params: str | None = None
    tokens: str | None = None
    context: int | None = None
    long_context: int | None = None
    vocab: int | None = None
    device: str | None = None
    devices: int | None = None
    mfu: float | None = None
    price: float | None = None
    data: Path | None = None
    out: Path | None = None
    figures: Path | None = None
    candidates: bool = False
    calibrate: bool = False
    seed: int = 0
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop plan", description=DESCRIPTION)
    if a.calibrate:
        from isoflop.cli.calibrate import calibrate

        calibrate(as_json=a.json and a.budget is None)
    if a.budget is not None:
        answer(a, a.budget)
    elif not a.calibrate:
        raise ValueError("a plan needs a budget, such as 3.8e25, '64 H100 x 30 days' or '10 minutes here'")


def answer(a: Arguments, budget: str) -> None:
    """Plan, and show or write what was asked for."""
    from isoflop.cli.plan_screen import candidates, screen
    from isoflop.planning.planner import plan

    asked, law = question(a, budget)
    planned = plan(asked, law, this_machine(a, budget))
    if a.out is not None:
        write(planned, a.out, data_folder(a))
    if a.json:
        print(json.dumps(planned.to_json(), indent=1))
    else:
        print(candidates(planned) if a.candidates else screen(planned))
        if a.out is not None:
            print(f"\nwritten to {a.out}: isoflop train {a.out}")
            if data_folder(a) is None:
                print(f"first prepare its tokens: {preparing(planned, a.out)}")
    if a.figures is not None:
        from isoflop.report.plan_figures import write_plan_figures

        for path in write_plan_figures(planned, a.figures):
            print(f"figure: {path}")


def this_machine(a: Arguments, budget: str) -> Machine | None:
    """This machine as it was measured; where that no longer holds it is said, and refused only if the plan needs it."""
    from isoflop.planning.duration import seconds_here
    from isoflop.planning.machine import machine

    try:
        return machine()
    except ValueError as error:
        if a.device == "here" or seconds_here(budget) is not None:
            raise
        print(f"note: {error}", file=sys.stderr)
        return None


def question(a: Arguments, budget: str) -> tuple[Question, Evidence | None]:
    """The command line as a question, and the law of the sweep it names, if any."""
    from isoflop.planning.evidence import DEFAULT, swept
    from isoflop.planning.planner import Question

    if a.sweep is not None and a.law is not None:
        raise ValueError("give either --law or --sweep: both say which law to use")
    vocab, context, first_batch, law, have = a.vocab, a.context, None, None, quantity(a.have, "--have")
    if a.sweep is not None:
        from isoflop import config as configuration
        from isoflop.sweeps.fit import fit_results
        from isoflop.sweeps.grid import SweepConfig
        from isoflop.sweeps.results import read_results

        sweep = configuration.load(SweepConfig, a.sweep / "sweep.toml")
        fit = fit_results(read_results(a.sweep), seed=a.seed)
        law = swept(fit.surfaces, fit.isoflop, fit.statuses, sweep.vocab, sweep.context, a.seed)
        vocab, context, first_batch = vocab or sweep.vocab, context or sweep.context, sweep.first_batch
    if (folder := data_folder(a)) is not None:
        from isoflop.tokens.manifest import Manifest

        manifest = Manifest.read(folder)
        if vocab not in (None, manifest.vocab_size):
            raise ValueError(f"{folder} has a vocabulary of {manifest.vocab_size:,}, and {vocab:,} was asked for")
        vocab, have = manifest.vocab_size, have or float(manifest.splits["train"].tokens)
    asked = Question(
        budget=budget,
        law=DEFAULT if a.law is None else a.law,
        unique=have,
        epochs=a.epochs,
        served=0.0 if a.serve is None else quantity(a.serve, "--serve") or 0.0,
        fits=a.fits,
        fits_in=a.fits_in,
        params=quantity(a.params, "--params"),
        tokens=quantity(a.tokens, "--tokens"),
        context=context,
        long_context=a.long_context,
        vocab=vocab,
        device=a.device,
        devices=a.devices,
        mfu=None if a.mfu is None else a.mfu / 100,
        price=a.price,
        first_batch=first_batch,
        seed=a.seed,
    )
    return asked, law


def data_folder(a: Arguments) -> Path | None:
    """The tokens that were named, or those of the sweep where they are still there."""
    if a.data is not None or a.sweep is None:
        return a.data
    from isoflop import config as configuration
    from isoflop.sweeps.grid import SweepConfig

    folder = (a.sweep / configuration.load(SweepConfig, a.sweep / "sweep.toml").data).resolve()
    return folder if folder.is_dir() else None


def quantity(text: str | None, option: str) -> float | None:
    """A number as people write it. Raises ValueError naming the option for anything else."""
    from isoflop.planning.duration import NUMBER, number

    if text is None:
        return None
    if not re.fullmatch(NUMBER, text.strip(), re.IGNORECASE | re.ASCII):
        raise ValueError(f"{option} {text!r} is not a number; write 15.6T, 8B, 400M, 1e12 or 12,000")
    return number(text.strip())


def preparing(planned: Plan, out: Path) -> str:
    """The command that prepares what a config without data expects beside its run."""
    return f"isoflop prepare --corpus TEXTS --vocab-size {planned.shape.vocab} --out {out.parent / 'tokens'}"


def write(planned: Plan, out: Path, data: Path | None) -> None:
    """Write the config that trains the plan, and the plan that the run will be scored by.

    Raises ValueError where the directory holds a run already.
    """
    from isoflop import config as configuration
    from isoflop.files import write_json, write_text
    from isoflop.training.config import TrainConfig

    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a directory to write the plan to")
    if (out / "metrics.jsonl").exists():
        raise ValueError(f"{out} holds a run that has begun; write the plan to another directory")
    out.mkdir(parents=True, exist_ok=True)
    folder = "../tokens" if data is None else str(data.resolve())
    config = configuration.from_dict(TrainConfig, planned.config_for(folder))
    write_text(out / "config.toml", configuration.dumps(config))
    write_json(out / "plan.json", planned.to_json())
