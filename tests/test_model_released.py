"""Logits equal transformers' for every generation of Llama past position 8,192, and rotary angles the formula's."""

from __future__ import annotations

import math

import pytest
import torch

from isoflop.model.convert import from_transformers, to_transformers
from isoflop.model.hub_config import scaling_of
from isoflop.model.llama import Llama
from isoflop.model.rotary import rotary_table
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape

TIME = 8500
"""Tokens of the sequences: past the 8,192 of Llama 3's original context."""


def narrow(kv_heads: int, tied: bool, theta: float, scaling: RopeScaling | None = None) -> Shape:
    """One layer of the released heads of 64 and the released rotary frequencies."""
    return Shape(1, 128, 2, kv_heads, 64, 64, TIME, tied, theta, rope_scaling=scaling)


RELEASED = {
    "Llama 2": narrow(2, False, 1e4),
    "Llama 3": narrow(1, False, 5e5),
    "Llama 3.1": narrow(1, False, 5e5, RopeScaling()),
    "Llama 3.2": narrow(1, True, 5e5, RopeScaling(factor=32.0)),
}


@pytest.mark.parametrize("name", RELEASED)
def test_logits_equal_transformers_past_position_8192(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = Llama(RELEASED[name]).initialise(0)
    with torch.no_grad():
        model.blocks[0].qkv.mul_(3)  # scores as far apart as a trained model's: positions decide who is heard
    config, weights = to_transformers(model)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    reference.load_state_dict(weights)
    ids = torch.randint(64, (1, TIME), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model(ids), reference(ids, use_cache=False).logits
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=0)
        tables = reference.model.rotary_emb(ours, torch.arange(TIME)[None])
        for buffer, table in zip((model.cos, model.sin), tables, strict=True):
            # Their angles are rounded to fp32, up to 5e-4 radians here. Of the same angles logits are the same.
            torch.testing.assert_close(buffer, table[0, :, :32], atol=1e-3, rtol=0)
            buffer.copy_(table[0, :, :32])
        torch.testing.assert_close(model(ids), theirs, atol=5e-5, rtol=1e-4)
        if model.shape.rope_scaling is not None:
            model.set_rope(model.shape.rope_theta)
            assert (model(ids) - theirs).abs().max() > 0.05


@pytest.mark.parametrize("name", ["Llama 3", "Llama 3.1", "Llama 3.2"])
def test_rotary_scaling_survives_the_way_to_transformers_and_back(name: str) -> None:
    model = Llama(RELEASED[name]).initialise(0)
    assert from_transformers(*to_transformers(model), context=TIME).shape == model.shape


@pytest.mark.parametrize("scaling", [RopeScaling(), RopeScaling(32.0), RopeScaling(8.0, 1.0, 4.0, 64)])
def test_frequencies_are_kept_slowed_or_blended_by_their_wavelength(scaling: RopeScaling) -> None:
    cos, sin = rotary_table(300, 128, 5e5, scaling)
    for i in range(64):
        plain = 5e5 ** (-2 * i / 128)
        wavelength = 2 * math.pi / plain
        if wavelength < scaling.original / scaling.high:
            expected = plain
        elif wavelength > scaling.original / scaling.low:
            expected = plain / scaling.factor
        else:
            share = (scaling.original / wavelength - scaling.low) / (scaling.high - scaling.low)
            expected = (1 - share) * plain / scaling.factor + share * plain
        for position in (1, 299):
            assert float(cos[position, i]) == pytest.approx(math.cos(position * expected), abs=1e-7)
            assert float(sin[position, i]) == pytest.approx(math.sin(position * expected), abs=1e-7)


def test_angles_are_exact_at_the_end_of_the_longest_context() -> None:
    _, sin = rotary_table(131_072, 8, 5e5)
    expected = [math.sin(131_071 * 5e5 ** (-i / 4)) for i in range(4)]
    assert [float(s) for s in sin[-1]] == pytest.approx(expected, abs=1e-7)


def test_scaling_of_another_kind_is_refused_by_name() -> None:
    assert scaling_of(None) is scaling_of({"rope_type": "default"}) is None
    with pytest.raises(ValueError, match="'yarn'"):
        scaling_of({"rope_type": "yarn", "factor": 4.0})


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_changed_frequencies_reach_a_model_that_has_run_already(compute: torch.dtype) -> None:
    shape = Shape(1, 32, 2, 1, 48, 64, 64)
    ids = torch.randint(64, (1, 64), generator=torch.Generator().manual_seed(0))
    model, scaling = Llama(shape, compute=compute).initialise(0), RopeScaling(4.0, original=16)
    before = model(ids)
    model.set_rope(5e5, scaling)
    fresh = Llama(Shape(1, 32, 2, 1, 48, 64, 64, rope_theta=5e5, rope_scaling=scaling), compute=compute).initialise(0)
    assert torch.equal(model(ids), fresh(ids))
    assert not torch.equal(model(ids), before)
