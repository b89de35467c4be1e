"""From a size to layers: the released shapes come out, everything divides, and each dropped candidate says why."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.planning.architecture import MOST_OFF, architecture, layout_for
from isoflop.planning.ladder import shape_for
from isoflop.planning.layout import Layout
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import Shape


@pytest.mark.parametrize("name", ["Llama 3.1 8B", "Llama 3.1 405B"])
def test_asked_for_their_sizes_it_builds_the_released_models(name: str) -> None:
    released = RELEASED[name]
    built = architecture(released.parameters, 128_256, context=8192, counts="total")
    assert built.shape == released.shape
    assert built.nearest.name == name


@settings(max_examples=60, deadline=None)
@given(st.floats(math.log(1e8), math.log(1.5e12)))
def test_models_divide_over_the_devices_they_will_need(log_size: float) -> None:
    shape = architecture(math.exp(log_size), 131_072, context=8192, counts="total").shape
    assert layout_for(shape).objection(shape) is None
    assert abs(math.log(shape.total) - log_size) < MOST_OFF
    if shape.total > 4e9:
        assert Layout(tensor=8).objection(shape) is None
        assert shape.layers % 4 == 0 or (shape.layers + 2) % 4 == 0


@settings(max_examples=40, deadline=None)
@given(st.floats(math.log(1e5), math.log(4e8)))
def test_where_one_device_is_enough_it_is_the_ladders_model(log_size: float) -> None:
    size = math.exp(log_size)
    assert architecture(size, 512, context=128).shape == shape_for(size, 512, context=128)


def test_exactly_one_candidate_is_taken_and_the_rest_say_why_not() -> None:
    built = architecture(7e10, 128_256, context=8192, counts="total")
    taken = [c for c in built.candidates if c.dropped is None]
    assert [c.shape for c in taken] == [built.shape]
    reasons = " ".join(str(c.dropped) for c in built.candidates[1:])
    for words in ("fit better", "do not divide over 4 pipeline stages", "times as wide for its depth"):
        assert words in reasons
    assert any("off in size" in str(c.dropped) for c in architecture(1e5, 512, context=128).candidates)


def test_a_cap_is_kept_even_when_the_nearest_shape_is_above_it() -> None:
    free = architecture(1.2e9, 128_256, context=8192, counts="total").shape
    capped = architecture(1.2e9, 128_256, context=8192, counts="total", most=free.total - 1).shape
    assert capped.total < free.total


def test_flops_split_adds_up_to_the_exact_count() -> None:
    built = architecture(1e9, 32_000, context=4096)
    flops, s = built.flops_per_token, built.shape
    assert flops.total == s.flops_per_token
    assert flops.linear + flops.output == 6 * s.matmul
    assert flops.attention == 6 * s.layers * s.width * 4097
    values = json.loads(json.dumps(built.to_json()))
    assert Shape(**values["shape"]) == s
    assert values["flops_per_token"]["6N"] == 6 * s.matmul


@pytest.mark.parametrize(("size", "words"), [(1e4, "the nearest has 27.3k"), (1e16, "the nearest has .*nearer to it")])
def test_a_size_that_cannot_be_built_is_refused_with_the_nearest(size: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        architecture(size, 512, context=128)


@pytest.mark.parametrize(("layout", "words"), [
    (Layout(tensor=3), "key-value heads do not divide"),
    (Layout(tensor=8), None),
    (Layout(pipeline=7), "32 layers .* do not divide over 7"),
    (Layout(pipeline=17), None),  # embedding and head count as a layer each
    (Layout(context=3), "does not cut into 6 chunks"),
])  # fmt: skip
def test_layouts_object_to_what_does_not_divide(layout: Layout, words: str | None) -> None:
    objection = layout.objection(RELEASED["Llama 3 8B"].shape)
    assert (objection is None) if words is None else re.search(words, str(objection))


def test_a_layouts_degrees_multiply_and_none_is_below_one() -> None:
    layout = Layout(tensor=8, context=2, pipeline=4, data=3)
    assert layout.devices == 192
    assert layout.replicas == 6
    assert "TP 8, CP 2, PP 4, DP 3" in str(layout)
    with pytest.raises(ValueError, match="data must be at least 1"):
        replace(layout, data=0)
