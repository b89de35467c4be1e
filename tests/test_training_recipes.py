"""The recipes that ship say what is published, load, show their schedules, and their twins train."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from isoflop import config as configuration
from isoflop.cli import main
from isoflop.cli import schedule_screen as screen
from isoflop.planning.released import LONG, RELEASED
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape
from isoflop.report.schedule_figure import write_schedule_figure
from isoflop.training import checkpoint, recipes, timeline
from isoflop.training.config import TrainConfig
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

MODELS = {
    "llama1-7b": "Llama 1 7B",
    "llama1-65b": "Llama 1 65B",
    "llama2-7b": "Llama 2 7B",
    "llama2-70b": "Llama 2 70B",
    "llama3-8b": "Llama 3.1 8B",
    "llama3-405b": "Llama 3.1 405B",
    "llama3.2-1b": "Llama 3.2 1B",
}
PEAK = {"Llama 1 7B": 3e-4, "Llama 1 65B": 1.5e-4, "Llama 2 7B": 3e-4, "Llama 2 70B": 1.5e-4, "Llama 3.1 405B": 8e-5}
SCALING = {"Llama 3.1 8B": 8.0, "Llama 3.1 405B": 8.0, "Llama 3.2 1B": 32.0}
MILLION = 2**20


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_every_model_has_a_recipe_and_a_twin() -> None:
    assert set(recipes.names()) == {*MODELS, *(f"{name}-tiny" for name in MODELS)}


@pytest.mark.parametrize(("name", "model"), MODELS.items())
def test_recipe_has_the_released_models_shape_and_tokens(name: str, model: str) -> None:
    config, released = recipes.recipe(name), RELEASED[model]
    shape = released.shape
    if model in SCALING:
        shape = replace(shape, context=LONG, rope_scaling=RopeScaling(SCALING[model]))
    assert config.shape == shape
    assert config.schedule.tokens == released.training.tokens
    assert config.schedule.peak == PEAK.get(model, 3e-4)
    assert (config.optimizer.beta1, config.optimizer.beta2, config.optimizer.weight_decay) == (0.9, 0.95, 0.1)
    assert config.optimizer.clip == 1.0
    assert config.batch.first == 4 * MILLION


@pytest.mark.parametrize("name", ["llama1-7b", "llama1-65b", "llama2-7b", "llama2-70b"])
def test_first_two_generations_warm_up_2000_steps_and_go_down_a_cosine_to_a_tenth(name: str) -> None:
    config = recipes.recipe(name)
    schedule = config.schedule
    assert schedule.warmup_tokens == 2000 * config.batch.first
    assert (schedule.kind, schedule.floor) == ("cosine", 0.1)
    assert schedule.learning_rate(schedule.tokens) == pytest.approx(schedule.peak / 10)
    assert config.optimizer.eps == (1e-8 if "1" in name.split("-")[0] else 1e-5)
    if name.startswith("llama1"):
        assert config.mixture is not None
        assert list(config.mixture.final.values()) == pytest.approx([0.67, 0.15, 0.045, 0.045, 0.045, 0.025, 0.02])


def test_largest_has_the_ramp_and_the_stages_of_its_report() -> None:
    config = recipes.recipe("llama3-405b")
    schedule, batch = config.schedule, config.batch
    assert schedule.warmup_tokens == 8000 * batch.first
    assert [batch.at(t) for t in (0, 251 * 10**6, 253 * 10**6, int(2.9e12))] == [4 * MILLION] * 2 + [8 * MILLION, 2**24]
    assert config.contexts.at(0) == 4096
    assert config.contexts.at(int(2.6e8)) == 8192 == config.contexts.at(int(14.7e12))
    assert config.contexts.last == LONG
    assert schedule.learning_rate(int(15e12)) == pytest.approx(8e-7)
    assert schedule.tokens - config.contexts.thresholds[1] == pytest.approx(800e9, rel=1e-3)
    assert schedule.tokens - schedule.annealing == 40_000_000
    assert schedule.learning_rate(schedule.tokens) == 0
    assert config.average is not None
    assert config.average.start == schedule.annealing
    assert config.document_mask
    assert config.mixture is not None
    assert config.mixture.blends[0].shares == {"general": 0.5, "math": 0.25, "code": 0.17, "multilingual": 0.08}
    assert config.rope_at(int(1e12)).scaling is None
    assert config.rope_at(int(15e12)).scaling == RopeScaling()


@pytest.mark.parametrize("name", MODELS)
def test_twin_has_the_stages_of_its_model_scaled_down(name: str) -> None:
    model, twin = recipes.recipe(name), recipes.recipe(f"{name}-tiny")
    assert [phase.kind for phase in twin.schedule.descent] == [phase.kind for phase in model.schedule.descent]
    assert [phase.to for phase in twin.schedule.descent] == [phase.to for phase in model.schedule.descent]
    assert len(twin.batch.thresholds) == len(model.batch.thresholds)
    assert len(twin.contexts.thresholds) == len(model.contexts.thresholds)
    assert model.contexts.first // twin.contexts.first == model.contexts.last // twin.contexts.last
    assert [part.name for part in timeline.stretches(twin)].count("long context") == [
        part.name for part in timeline.stretches(model)
    ].count("long context")
    assert len(twin.ropes) == len(model.ropes)
    assert (twin.average is None, twin.gates is None) == (model.average is None, model.gates is None)
    assert [source.name for source in twin.sources] == [source.name for source in model.sources]
    assert [blend.weights for blend in twin.blends.blends] == [blend.weights for blend in model.blends.blends]
    assert (twin.shape.tied, twin.shape.rope_theta) == (model.shape.tied, model.shape.rope_theta)
    assert twin.shape.total < 5e6
    assert configuration.from_dict(TrainConfig, configuration.to_dict(twin)) == twin


@pytest.mark.parametrize("name", [name for model in MODELS for name in (model, f"{model}-tiny")])
def test_every_recipe_shows_its_schedule(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = recipes.recipe(name)
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(tmp_path / "run"), "--recipe", name, "--show-schedule", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["stages"][0]["start"] == 0
    assert all(a["end"] == b["start"] for a, b in pairwise(shown["stages"]))
    assert shown["stages"][-1]["end"] == shown["tokens"] == config.schedule.tokens
    drawn = screen.text(config).splitlines()
    assert {line.split()[0] for line in drawn[1:4]} == {"rate", "batch", "context"}
    assert all(len(line.rstrip()) < 125 for line in drawn)


def test_figure_of_a_schedule_has_a_panel_for_all_that_changes(tmp_path: Path) -> None:
    path = write_schedule_figure(recipes.recipe("llama3-405b"), tmp_path / "schedule.svg")
    assert path.read_text().count('<g id="axes_') == 4
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(tmp_path / "run"), "--recipe", "llama2-7b-tiny", "--show-schedule"])
    assert (tmp_path / "run" / "schedule.svg").read_text().count('<g id="axes_') == 3
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, write_tokens: Callable[..., Path]) -> Path:
    """A folder of tokens, and in it one for each source of every mixture."""
    folder, rng = tmp_path_factory.mktemp("recipes") / "tokens", random.Random(0)

    def documents() -> list[list[int]]:
        return [[rng.randrange(20, 250) for _ in range(200)] for _ in range(40)]

    write_tokens(folder, documents(), 15)
    mixtures = (recipes.recipe(name).sources for name in ("llama1-7b", "llama3-8b"))
    for source in {source.name for sources in mixtures for source in sources}:
        write_tokens(folder / source, documents(), 15)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_twin_trains_in_its_first_and_its_last_stage(name: str, tokens: Path, tmp_path: Path) -> None:
    config = recipes.recipe(f"{name}-tiny", tokens)
    config = replace(config, shape=replace(config.shape, vocab=300, layers=1), validation_tokens=2048, compile="never")
    if config.mixture is not None:
        config = replace(config, mixture=replace(config.mixture, max_epochs=1e9, refuse_epochs=1e9))
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    annealing = min(config.schedule.annealing, config.schedule.tokens - config.batch.last)
    for consumed in (0, annealing):
        trainer.progress = checkpoint.Progress(consumed, 0, 0.0)
        line, _ = trainer.step()
        assert line["context"] == config.contexts.at(consumed)
        assert line["loss"] < 7.0
        assert line["gradient_norm"] > 0
    assert trainer.average is None or trainer.average.count == 1


def test_recipe_is_printed_written_and_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(str(left.value.code)), out, err

    status, out, _ = run("recipes")
    assert status == 0
    assert len(out.splitlines()) == 14
    assert run("recipes", "llama3-8b-tiny", "--write", str(tmp_path / "mine.toml"))[0] == 0
    assert configuration.load(TrainConfig, tmp_path / "mine.toml") == recipes.recipe("llama3-8b-tiny")
    assert "is there already" in run("recipes", "llama3-8b-tiny", "--write", str(tmp_path / "mine.toml"))[2]
    assert "did you mean llama2-7b" in run("recipes", "lama2-7b")[2]
    status, _, err = run("train", str(tmp_path / "r"), "--recipe", "llama3-8b-tiny", "--data", str(tmp_path))
    assert status == 1
    assert "a mixture needs a folder of tokens for each of its sources" in err


def test_only_what_changes_begins_a_stretch(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(shape=Shape(2, 16, 2, 1, 32, 300, context=32))
    assert [(p.name, p.start, p.end, p.batch) for p in timeline.stretches(config)] == [
        ("initial", 0, 256, 128),
        ("initial", 256, 1024, 128),
        ("initial", 1024, 3072, 256),
        ("annealing", 3072, 4096, 256),
    ]
    at = list(timeline.points(timeline.stretches(config), 72, 4))
    assert at[0] == 0
    assert at[-1] == 4096
    assert at == sorted(at)
