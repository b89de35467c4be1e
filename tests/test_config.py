"""Configs go to TOML and back unchanged, and a wrong key or value is named with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from isoflop import config as configuration
from isoflop.planning.schedule import BatchRamp, ContextRamp, Schedule
from isoflop.training.config import Branch, TrainConfig

Make = Callable[..., TrainConfig]


def test_config_survives_toml(tiny_config: Make, tmp_path: Path) -> None:
    ramp = ContextRamp(8, (1024, 2048))
    config = tiny_config(branch=Branch("../trunk", 512), keep=(1, 2), context=ramp)
    (tmp_path / "config.toml").write_text(configuration.dumps(config))
    assert configuration.load(TrainConfig, tmp_path / "config.toml") == config


def test_config_from_before_contexts_grew_has_one_context(tiny_config: Make) -> None:
    config = tiny_config()
    assert "context" not in values(config)
    assert configuration.from_dict(TrainConfig, values(config)) == config
    assert config.contexts == ContextRamp(32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context": ContextRamp(8, (1024,))}, "grows to 16 tokens but shape.context is 32"),
        ({"context": ContextRamp(16, (160,))}, "to 32 at 160 tokens, .* ends at 256; move that threshold to 256"),
        ({"batch": BatchRamp(16)}, "a batch of 16 tokens, as at 0 tokens, .* sequences of 32"),
        (
            {"batch": BatchRamp(16, (2048,)), "context": ContextRamp(16, (1024,))},
            "a batch of 16 tokens, as at 1,024 tokens, .* sequences of 32",
        ),
    ],
)
def test_context_that_the_run_cannot_have_is_refused_with_the_tokens(
    tiny_config: Make, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_config(**changes)


def test_what_lies_beyond_the_end_of_a_run_is_not_refused(tiny_config: Make) -> None:
    changes = {"batch": BatchRamp(16, (2048,)), "context": ContextRamp(16, (1024,))}
    assert tiny_config(schedule=Schedule(1024, 0.01), **changes).contexts.at(0) == 16


def test_exact_flops_are_those_of_every_step_at_its_context(tiny_config: Make) -> None:
    config = tiny_config(context=ContextRamp(8, (1024, 2048)))
    total = config.schedule.tokens
    steps = list(config.batch.steps(total))
    cost = {t: config.batch.at(t) * replace(config.shape, context=config.contexts.at(t)).flops_per_token for t in steps}
    assert config.flops_exact(0, total) == sum(cost.values())
    assert config.flops_exact(steps[5], steps[11]) == sum(cost[t] for t in steps[5:11])
    assert config.flops_exact(0, total) < replace(config, context=None).flops_exact(0, total)


def values(config: TrainConfig) -> dict[str, object]:
    return configuration.to_dict(config)


def test_unknown_key_suggests_the_nearest_known_one(tiny_config: Make) -> None:
    data = values(tiny_config())
    data["schedule"]["warmup_token"] = 3
    with pytest.raises(ValueError, match=r"schedule has an unknown key 'warmup_token'; did you mean 'warmup_tokens'"):
        configuration.from_dict(TrainConfig, data)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", "one", "config.seed must be int, not 'one'"),
        ("seed", 1.5, "config.seed must be int"),
        ("seed", True, "config.seed must be int"),
        ("precision", "fp8", "config.precision must be one of 'auto', 'bf16', 'fp32'"),
        ("keep", [1, "x"], r"config.keep\[1\] must be int"),
        ("shape", 3, "config.shape must be a table"),
    ],
)
def test_value_of_the_wrong_kind_is_named_with_its_place(
    tiny_config: Make, key: str, value: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        configuration.from_dict(TrainConfig, values(tiny_config()) | {key: value})


def test_numbers_may_be_written_as_people_do() -> None:
    schedule = configuration.from_dict(Schedule, {"tokens": 1e9, "peak": 1})
    assert schedule.tokens == 1_000_000_000
    assert isinstance(schedule.tokens, int)
    assert isinstance(schedule.peak, float)


def test_missing_key_and_missing_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="config lacks the key 'peak'"):
        configuration.from_dict(Schedule, {"tokens": 1})
    with pytest.raises(ValueError, match="there is no config file at"):
        configuration.load(Schedule, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("tokens = = 3")
    with pytest.raises(ValueError, match="is not TOML"):
        configuration.load(Schedule, tmp_path / "bad.toml")


def test_difference_names_the_first_field_that_differs(tiny_config: Make) -> None:
    one, two = tiny_config(), tiny_config(schedule=Schedule(4096, 0.01, 256, 512))
    assert configuration.difference(one, two) == "schedule.decay_tokens: 1024 → 512"
    assert configuration.difference(one, one) is None
