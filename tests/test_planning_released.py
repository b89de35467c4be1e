"""The released models' counts come out of our arithmetic and of transformers', and nearest() names the right one."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.planning.hardware import DEVICES
from isoflop.planning.ladder import shape_for
from isoflop.planning.released import RELEASED, Released, nearest
from isoflop.planning.shape import Shape

MODELS = list(RELEASED.values())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_published_counts_come_out_of_the_shape_to_the_digit(model: Released) -> None:
    assert model.shape.total == model.parameters


@pytest.mark.parametrize("shape", dict.fromkeys(model.shape for model in MODELS), ids=lambda shape: shape.name)
def test_transformers_builds_a_model_of_the_same_count(shape: Shape) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    assert sum(weight.numel() for weight in model.parameters()) == shape.total


@pytest.mark.parametrize(("name", "width", "multiplier", "multiple"), [
    ("Llama 1 7B", 4096, 1.0, 256),
    ("Llama 1 13B", 5120, 1.0, 256),
    ("Llama 1 33B", 6656, 1.0, 256),
    ("Llama 1 65B", 8192, 1.0, 256),
    ("Llama 2 70B", 8192, 1.3, 4096),
    ("Llama 3 8B", 4096, 1.3, 1024),
    ("Llama 3.1 405B", 16_384, 1.2, 4096),
    ("Llama 3.2 1B", 2048, 1.5, 256),
    ("Llama 3.2 3B", 3072, 1.0, 256),
])  # fmt: skip
def test_ffn_widths_follow_the_released_codes_rule(name: str, width: int, multiplier: float, multiple: int) -> None:
    scaled = int(multiplier * int(8 * width / 3))
    assert RELEASED[name].shape.width == width
    assert RELEASED[name].shape.ffn == multiple * math.ceil(scaled / multiple)


def test_names_sizes_and_devices_agree() -> None:
    for model in MODELS:
        billions = float(model.name.split()[-1].removesuffix("B"))
        assert billions == pytest.approx(model.parameters / 1e9, rel=0.25)
        assert model.training.device in DEVICES
        assert model.training.source
        assert model.shape.context <= model.longest_context


def test_reported_stages_hold_together() -> None:
    stages = [stage for model in MODELS for stage in model.training.stages if stage.layout]
    assert len(stages) == 3
    for stage in stages:
        assert math.prod(stage.layout or ()) == stage.devices
        assert stage.batch_tokens == 2**24  # the report's 16M


@pytest.mark.parametrize(("plan", "name"), [
    (6.7e9, "Llama 2 7B"),  # of the two, the newer
    (7.9e9, "Llama 3.1 8B"),
    (65e9, "Llama 1 65B"),
    (1e6, "Llama 3.2 1B"),
    (402e9, "Llama 3.1 405B"),
    (Shape(32, 4096, 32, 8, 14_336, 128_000), "Llama 3.1 8B"),
    (Shape(32, 4096, 32, 32, 11_008, 32_768, tied=False), "Llama 2 7B"),
    (Shape(80, 8192, 64, 8, 28_672, 32_000, tied=False), "Llama 2 70B"),
    (Shape(80, 8192, 64, 8, 28_672, 131_072, tied=False), "Llama 3.1 70B"),
])  # fmt: skip
def test_nearest_names_the_model_that_a_person_would(plan: Shape | float, name: str) -> None:
    assert nearest(plan).name == name


@given(st.floats(math.log(1e5), math.log(1e13)))
def test_nearest_is_nearest_in_ratio(log_size: float) -> None:
    chosen = nearest(math.exp(log_size))
    gap = abs(math.log(chosen.parameters) - log_size)
    assert all(gap <= abs(math.log(model.parameters) - log_size) + 1e-9 for model in MODELS)


def test_a_released_shape_and_a_plan_for_its_size_are_nearest_to_it() -> None:
    for model in MODELS:
        assert nearest(model.shape).shape.total == model.parameters
    assert nearest(shape_for(402e9, 128_256)).name == "Llama 3.1 405B"


@pytest.mark.parametrize("size", [0, -1.0, math.nan, math.inf])
def test_nearest_to_no_size_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match="give a positive number"):
        nearest(size)


def test_models_are_plain_values() -> None:
    for model in MODELS:
        values = json.loads(json.dumps(model.to_json()))
        assert Shape(**values["shape"]) == model.shape
        assert values["training"]["tokens"] == model.training.tokens
