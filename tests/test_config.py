"""Configs go to TOML and back unchanged, and a wrong key or value is named with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop import config as configuration
from isoflop.planning.schedule import Schedule
from isoflop.training.config import Branch, TrainConfig

Make = Callable[..., TrainConfig]


def test_config_survives_toml(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(branch=Branch("../trunk", 512), keep=(1, 2))
    (tmp_path / "config.toml").write_text(configuration.dumps(config))
    assert configuration.load(TrainConfig, tmp_path / "config.toml") == config


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
