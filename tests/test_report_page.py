"""The report on a synthetic experiment in the real file formats, its losses from a known Chinchilla law."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoflop import config as configuration
from isoflop.experiment.procedure import flagship_config
from isoflop.experiment.score import score
from isoflop.experiment.settings import Experiment, Request
from isoflop.files import write_json, write_text
from isoflop.laws import Chinchilla
from isoflop.planning.from_sweep import plan_from_sweep
from isoflop.report.data import read_dossier
from isoflop.report.page import write_page
from isoflop.report.verdict import head, standing
from isoflop.sweeps.fit import fit_results
from isoflop.sweeps.grid import SweepConfig, columns
from isoflop.sweeps.results import read_results
from isoflop.tokens.prepare import PrepareConfig
from isoflop.training.config import TrainConfig

pytest.importorskip("matplotlib")

LAW = Chinchilla(E=1.6, A=40, alpha=0.35, B=123, beta=0.35)
SECONDS_PER_TOKEN = 2e-5
HOSTILE = "<script>alert('x')</script> & \x1b[31m\u202eevil \ud800 <img src=http://x.test/y>"
STATUS = "IsoFLOP: a status <b>with</b> markup"


def fake_run(folder: Path, config: TrainConfig, factor: float) -> None:
    """Write the files of a run whose loss follows the law times ``factor``."""
    folder.mkdir(parents=True)
    write_text(folder / "config.toml", configuration.dumps(config))
    N, start = config.shape.matmul, config.branch.tokens if config.branch else 0
    total = config.schedule.tokens
    lines = []
    for consumed in config.batch.steps(total, start):
        size = config.batch.at(consumed)
        tokens = consumed + size
        loss = float(LAW.loss(N, tokens)) * factor * (1.03 + 0.01 * math.sin(tokens))
        line = {"tokens": tokens, "step": tokens // size, "loss": loss, "batch_tokens": size}
        line |= {"learning_rate": config.schedule.learning_rate(consumed), "seconds": tokens * SECONDS_PER_TOKEN}
        lines.append(line)
    every = max(1, len(lines) // 50)  # the report needs no more, and the tests are quick
    needed = {lines[-1]["tokens"], *config.keep}
    kept = [line for i, line in enumerate(lines) if i % every == 0 or line["tokens"] in needed]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    measured = float(LAW.loss(N, total)) * factor
    counts = {"N_matmul": N, "N_body": config.shape.body, "N_total": config.shape.total, "tokens": total}
    cost = {"steps": len(lines), "seconds": total * SECONDS_PER_TOKEN, "flops_6ND": 6.0 * N * total}
    how = {"flops_exact": 7.0 * N * total, "precision": "bfloat16", "compiled": True, "threads": 1}
    write_json(folder / "summary.json", {"validation_loss": measured, "validation_bpb": 1.5} | counts | cost | how)


def fake_experiment(folder: Path, *, tilted: bool = False, text: str = "fine") -> Path:
    """A finished experiment."""
    sweep = SweepConfig((4e11, 8e11, 1.6e12, 3.2e12), "../tokens", vocab=512)
    experiment = Experiment(Request("my texts"), 3.2e13, PrepareConfig("my texts", 512), sweep, 600.0)
    folder.mkdir(parents=True)
    write_text(folder / "experiment.toml", configuration.dumps(experiment))
    fake_sweep(folder / "sweep", sweep, tilted=tilted)
    fit = fit_results(read_results(folder / "sweep"), replicates=60)
    chosen = plan_from_sweep(experiment.budget, fit.surfaces, fit.isoflop, sweep.vocab)
    record = chosen.to_json() | {"epochs": 0.5, "statuses": [*fit.statuses, STATUS], "written": 1.7e9}
    config = flagship_config(chosen, experiment)
    fake_run(folder / "flagship", config, chosen.loss / float(LAW.loss(config.shape.matmul, config.schedule.tokens)))
    write_json(folder / "flagship" / "plan.json", record)
    write_json(folder / "flagship" / "samples.json", [{"prompt": "def f(" + text, "text": text}])
    write_json(folder / "score.json", score(folder / "flagship"))
    write_json(folder / "time.json", {"seconds": 700.0})
    return folder


def rewound(done: Path, folder: Path, stage: str) -> Path:
    """A copy of a finished experiment as it was at an earlier stage: what came later is missing."""
    shutil.copytree(done, folder)
    later = {
        "trained": ["report.html", "score.json", "time.json"],
        "training": ["flagship/summary.json", "flagship/samples.json"],
        "planned": ["flagship/config.toml", "flagship/metrics.jsonl"],
        "swept": ["flagship"],
        "partial": [str(p.relative_to(done)) for p in sorted(done.glob("sweep/*-*/*/summary.json"))[:9]],
        "asked": ["sweep"],
    }
    for each, paths in later.items():
        for path in paths:
            shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink(missing_ok=True)
        if each == stage:
            break
    if stage == "training":
        metrics = folder / "flagship" / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join(lines[: len(lines) // 2]))
    return folder


def fake_sweep(folder: Path, sweep: SweepConfig, *, tilted: bool) -> None:
    """The runs of a sweep; ``tilted`` gives the smallest budget no minimum."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    write_text(folder / "sweep.toml", configuration.dumps(sweep))
    for column in columns(sweep):
        for name, config in column.runs:
            factor = float(np.exp(rng.normal(0, 0.002)))
            if tilted and name.endswith("C4e+11"):
                factor *= (config.shape.matmul / 1e5) ** 0.3
            fake_run(folder / name, config, factor)


@pytest.fixture(scope="module", autouse=True)
def _few_replicates() -> Iterator[None]:
    """Intervals that are rough but quick; the laws' own tests look at their quality."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isoflop.report.data.fit_results", partial(fit_results, replicates=60))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment with an unusable budget and hostile samples, and its page."""
    folder = fake_experiment(tmp_path_factory.mktemp("r") / "first", tilted=True, text=HOSTILE)
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(done: Path) -> str:
    return (done / "report.html").read_text(encoding="utf-8")


def visible_text(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def test_the_verdict_leads_with_the_scores_numbers(done: Path, page: str) -> None:
    told = json.loads((done / "score.json").read_text())
    start = visible_text(page)[:1200]
    low, high = told["interval_95"]
    assert "The measured loss is inside the predicted interval" in start
    for words in (f"{told['predicted']:.3f}", f"{told['measured']:.3f}", f"95%: {low:.3f} to {high:.3f}"):
        assert words in start
    assert f"{told['log_error']:+.1%}".replace("-", "−") in start
    assert told["verdict"] in start
    bars = re.findall(r'aria-label="([^"]*measured[^"]*)"', page)[0]
    for name, method in told["methods"].items():
        assert f"{name} {method['loss']:.3f}" in bars


def test_key_figures_come_from_the_plan(done: Path, page: str) -> None:
    record = json.loads((done / "flagship" / "plan.json").read_text())
    facts = visible_text(page[page.index('class="facts"') : page.index("<h2>")])
    assert f"{record['tokens_per_parameter']:.3g}" in facts
    for words in ("3.2×10¹³", "10×", "1.500", "11 min 40 s", "0.5 passes"):
        assert words in facts


def test_statuses_are_told_word_for_word(page: str) -> None:
    assert html.escape(STATUS) in page
    assert page.index(html.escape(STATUS)) < page.index("<h2>")


def test_a_budget_without_a_minimum_is_named_with_its_reason(page: str) -> None:
    assert "Grey, dashed and left out of the law: 4×10¹¹ FLOPs: minimum beyond the smallest model" in re.sub(
        r" +", " ", visible_text(page)
    )


def test_text_of_a_model_cannot_act(page: str) -> None:
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; \\x1b[31m\\u{202e}evil \\u{d800}" in page
    assert not set("\x1b\u202e") & set(page)


def test_the_page_needs_nothing_else(page: str) -> None:
    without_sample = page.replace(html.escape("src=http://x.test/y"), "")
    assert "http:" not in without_sample
    assert "https:" not in without_sample
    assert not re.search(r"<(link|iframe|object|embed|audio|video|base)|@import|<[^>]*\ssrc=", page)
    assert all(target.startswith("#") for target in re.findall(r'(?:href="|url\()([^")]*)', page))
    assert len(page.encode()) < 2_000_000
    assert not re.search(r"#0101|#0b0c", page), "every marker colour became a variable"


def test_ids_are_unique_and_elements_are_closed(page: str) -> None:
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) <= set(ids)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []


class Balance(HTMLParser):
    """Checks that every element is closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_same_directory_gives_the_same_bytes(done: Path, page: str, tmp_path: Path) -> None:
    import matplotlib

    copy = shutil.copytree(done, tmp_path / "first")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        assert write_page(copy).read_text(encoding="utf-8") == page


def test_figures_show_the_measured_and_the_planned(done: Path, page: str) -> None:
    told = json.loads((done / "score.json").read_text())
    law = page[page.index('aria-label="Loss of the best model') :]
    assert f">measured {told['measured']:.3f}</text>" in law
    assert f">predicted {told['predicted']:.3f}</text>" in law
    assert page.count("<svg") == 8


def test_every_cell_is_in_the_table(done: Path, page: str) -> None:
    rows = read_results(done / "sweep").rows
    for row in rows:
        for number in (f"{row.N_matmul:,}", f"{row.N_total:,}", f"{row.N_body:,}", f"{row.loss:.4f}"):
            assert f"<td>{number}</td>" in page
    assert f"All {len(rows)} finished cells" in page


def test_a_miss_is_said_plainly(done: Path) -> None:
    dossier = read_dossier(done)
    assert dossier.score is not None
    miss = {"inside": False, "measured": 9.0, "log_error": 1.5, "verdict": "above"}
    top = visible_text(head(replace(dossier, score=dossier.score | miss)))
    assert "The measured loss is above the predicted interval" in top
    assert "+150.0% outside the interval" in top


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("asked", "No verdict yet: the sweep has not begun"),
        ("partial", "cells of the sweep are finished"),
        ("planned", "No verdict yet: the flagship is planned, not trained"),
        ("training", "No verdict yet: the flagship has seen"),
    ],
)
def test_unfinished_experiments_say_how_far_they_are(done: Path, tmp_path: Path, stage: str, said: str) -> None:
    page = visible_text(write_page(rewound(done, tmp_path / "e", stage)).read_text(encoding="utf-8"))
    assert said in page
    assert ("There is no plan yet" in page) == (stage in ("asked", "partial"))
    assert ("has not been trained yet" in page) == (stage != "training")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("swept", "the sweep is finished, the flagship is not planned"),
        ("trained", "the flagship is trained, not scored"),
    ],
)
def test_between_two_steps_the_next_one_is_named(done: Path, tmp_path: Path, stage: str, said: str) -> None:
    assert standing(read_dossier(rewound(done, tmp_path / "e", stage))) == f"No verdict yet: {said}"


def test_few_cells_say_why_there_is_no_law(done: Path, tmp_path: Path) -> None:
    folder = rewound(done, tmp_path / "few", "swept")
    for file in (folder / "sweep").glob("*/*/summary.json"):
        if "C4e+11" not in str(file):
            file.unlink()
    page = visible_text(write_page(folder).read_text(encoding="utf-8"))
    assert "No law yet: " in page
    assert "No surface yet: " in page


def test_a_branch_does_not_count_its_trunk(done: Path) -> None:
    dossier = read_dossier(done)
    for run in dossier.runs:
        assert run.seconds <= (run.end - run.start) * SECONDS_PER_TOKEN * 1.2
        assert run.flops == 6.0 * run.config.shape.matmul * (run.config.schedule.tokens - run.start)
    assert {run.start > 0 for run in dossier.runs} == {True, False}


def test_a_folder_without_an_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no experiment"):
        write_page(tmp_path)


def test_without_matplotlib_the_way_to_get_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install isoflop\[report\]"):
        write_page(tmp_path)
