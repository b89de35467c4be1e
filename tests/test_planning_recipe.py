"""Schedules of planned runs: what Llama 3 did where it is known, and configs that the trainer accepts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from isoflop import config as configuration
from isoflop.planning.architecture import architecture
from isoflop.planning.ladder import shape_for
from isoflop.planning.recipe import published_rules, recipe
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import Shape
from isoflop.training.config import TrainConfig


def batch_at(shape: Shape, tokens: float, context: int) -> int:
    """The batch of most of a run whose context does not grow."""
    run = recipe(replace(shape, context=context), tokens)
    return run.batch.at(int(0.84 * tokens))


def test_for_llama_3_405b_the_batch_ends_where_theirs_did_and_the_context_grows_to_theirs() -> None:
    shape = architecture(405.9e9, 128_256, context=131_072, counts="total").shape
    run = recipe(shape, 15.6e12, first_context=8192)
    assert run.largest_batch == 2**24  # the report's 16M
    assert run.batch.first <= 4 * 2**20
    assert run.contexts.first == 8192
    assert run.contexts.last == 131_072
    stages = list(run.stages())
    assert [stage.context for stage in stages] == [8192, 16_384, 32_768, 65_536, 131_072, 131_072]
    long = sum(stage.end - stage.start for stage in stages if stage.name == "long context")
    assert long == pytest.approx(800e9, rel=0.05)  # what they spent on it
    assert run.schedule.peak == pytest.approx(8e-5, rel=0.5)


@settings(max_examples=40, deadline=None)
@given(st.floats(4.9, 11.7), st.floats(0, 2.5), st.integers(0, 3))
def test_every_recipe_is_a_config_that_the_trainer_accepts(log_size: float, log_ratio: float, growth: int) -> None:
    size = 10**log_size
    tokens = size * 10**log_ratio
    first = 128 if size < 1e8 else 2048
    shape = shape_for(size, 512 if size < 1e8 else 32_000, context=first << growth)
    assume(not growth or batch_at(shape, tokens, first) >= first << growth)
    run = recipe(shape, tokens, first_context=first)
    config = configuration.from_dict(TrainConfig, run.config(shape, "../tokens", seed=3))
    assert configuration.from_dict(TrainConfig, configuration.to_dict(config)) == config
    assert config.seed == 3
    assert tokens <= run.tokens <= tokens + run.largest_batch
    stages = list(run.stages())
    assert stages[0].start == 0
    assert stages[-1].end == run.tokens
    assert all(one.end == other.start for one, other in zip(stages, stages[1:], strict=False))
    if run.steps < 1e5:
        counted = sum(1 for _ in config.batch.steps(run.tokens))
        assert run.steps == pytest.approx(counted, abs=len(run.batch.thresholds))


def test_small_runs_begin_with_the_smallest_batch_like_the_runs_of_a_sweep() -> None:
    shape = shape_for(1e6, 512, context=128)
    assert recipe(shape, 4e7).batch.first == 1024
    assert recipe(shape, 4e7, first_batch=4096).batch.first == 4096


def test_the_last_tenth_is_annealed_to_nothing() -> None:
    run = recipe(RELEASED["Llama 3 8B"].shape, 1e12)
    last = list(run.stages())[-1]
    assert last.name == "annealing"
    assert last.end - last.start == pytest.approx(1e11, rel=0.01)
    assert last.learning_rate[0] == pytest.approx(run.schedule.peak)
    assert last.learning_rate[1] < 1e-2 * run.schedule.peak


def test_warmup_of_large_models_is_bounded_as_llama_3s_was() -> None:
    run = recipe(RELEASED["Llama 3.1 405B"].shape, 15.6e12)
    assert run.schedule.warmup_tokens == 8000 * run.batch.first


@pytest.mark.parametrize(("first", "longest", "words"), [
    (1000, 4096, "grows by doubling: 4,096 is no power of two times 1,000"),
    (8192, 4096, "grows by doubling"),
    (128, 131_072, "does not hold a sequence of 131,072"),
])  # fmt: skip
def test_contexts_that_cannot_grow_so_are_refused(first: int, longest: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        recipe(shape_for(1e6, 512, context=longest), 1e7, first_context=first)


def test_published_rules_stand_beside_ours() -> None:
    shape = RELEASED["Llama 3 8B"].shape
    step, olmo, critical = published_rules(shape, 15e12, 2.0)
    assert step.learning_rate == pytest.approx(1.79734 * shape.body**-0.712922 * 15e12**0.307491)
    assert step.batch == pytest.approx(0.580688 * 15e12**0.570944)
    assert olmo.batch == pytest.approx(2048 * 160 * (shape.body / 108e6) ** (2 / 3))
    assert critical.batch == pytest.approx(2.1e8 / 2.0 ** (1 / 0.21))
    assert published_rules(shape, 15e12, None)[2].batch is None
    assert math.isfinite(recipe(shape, 15e12).schedule.peak)
