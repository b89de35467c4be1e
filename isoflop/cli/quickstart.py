"""``isoflop quickstart``: the whole loop in one command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from isoflop.experiment.settings import Request

DESCRIPTION = """The whole loop: many small runs at fixed compute, a law fitted to them, a model planned from the law
for ten times the budget, its loss predicted with an interval, the model trained, the prediction scored.

Stopped anywhere, the same command goes on.

examples:
  isoflop quickstart                                       about 10 minutes, on text every Python installation has
  isoflop quickstart --corpus my_texts/ --minutes 60       an hour on your own .txt, .md, .jsonl(.gz, .zst) files
  isoflop quickstart --budget 3e14 --dry-run               what a flagship of 3e14 FLOPs would take
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop quickstart``.

    Attributes:
        corpus: A file or folder of .txt, .md, .jsonl, .jsonl.gz, .jsonl.zst, or "python": the source of the standard
            library and of the packages installed beside isoflop.
        minutes: Time to spend on this machine, all steps together.
        budget: FLOPs of the flagship (6ND); overrides minutes.
        vocab: Vocabulary; by default it grows with the budget.
        context: Tokens a model sees at once; by default it grows with the budget.
        seed: The one seed of everything.
        out: Directory of the experiment.
        dry_run: Say what would be done and how long it would take, and do nothing.
        json: Print the result as JSON.
    """

    corpus: str = "python"
    minutes: float = 10.0
    budget: float | None = None
    vocab: int | None = None
    context: int | None = None
    seed: int = 0
    out: Path = Path("runs/quickstart")
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop quickstart", description=DESCRIPTION)
    corpus = a.corpus if a.corpus == "python" else str(Path(a.corpus).resolve())
    request = Request(corpus, a.minutes, a.budget, a.vocab, a.context, a.seed)
    from isoflop.experiment.describe import describe
    from isoflop.progress import console

    if a.dry_run:
        import tempfile

        from isoflop.experiment.settings import resolve

        with console() as report, tempfile.TemporaryDirectory() as scratch:
            print(describe(resolve(request, Path(scratch), report)))
        return
    from isoflop.experiment.procedure import run_experiment

    with console() as report:
        outcome = run_experiment(request, a.out, report)
    if a.json:
        print(json.dumps(outcome.score | {"report": str(outcome.report)}))
    else:
        print(f"verdict: {outcome.verdict}")
        print(f"report:  {outcome.report}")
