"""The roofline of a step: conservation and monotonicity on random layouts, counts by hand, and published runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from isoflop.planning.efficiency import GPU, Efficiency
from isoflop.planning.hardware import DEVICES, Device
from isoflop.planning.ladder import shape_of
from isoflop.planning.layout import Layout
from isoflop.planning.messages import messages, pace
from isoflop.planning.published_speeds import RUNS, Run
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import Shape
from isoflop.planning.throughput import StepTime, step_time
from isoflop.planning.work import FUSED, Implementation, work

H100 = DEVICES["H100"]
FREE = replace(H100, link=1e30, network=1e30)
IDEAL = Efficiency(1, 1, 1, 1, 1, 1, 1, 0)
SHAPE = shape_of(2048, 16, 32_768, context=2048)

degrees = st.sampled_from((1, 2, 4, 8))
layouts = st.builds(
    Layout,
    tensor=degrees,
    context=degrees,
    pipeline=degrees,
    data=degrees,
    sharding=st.sampled_from(("none", "optimizer", "gradients", "weights")),
    recompute=st.sampled_from(("none", "blocks")),
    rows=st.integers(1, 4),
)
shapes = st.builds(
    shape_of,
    st.sampled_from((512, 1024, 2048)),
    st.sampled_from((8, 16, 24)),
    st.sampled_from((1024, 32_768)),
    context=st.sampled_from((256, 2048)),
)


def fits(layout: Layout, shape: Shape) -> Layout:
    """The layout, where the shape can be laid out so."""
    assume(layout.objection(shape) is None)
    return layout


def step(shape: Shape, layout: Layout, micro: int = 1, device: Device = H100, **options: Any) -> StepTime:
    """A step of ``micro`` micro-batches."""
    tokens = layout.data * layout.rows * shape.context * micro
    return step_time(shape, layout, device, batch_tokens=tokens, **options)


@given(shapes, layouts, st.integers(1, 8))
def test_parts_are_not_negative_and_sum_to_the_whole(shape: Shape, layout: Layout, micro: int) -> None:
    found = step(shape, fits(layout, shape), micro)
    assert all(part >= 0 for part in found.parts.values())
    assert sum(found.parts.values()) == pytest.approx(found.seconds)
    assert found.to_json()["seconds"] == found.seconds
    assert found.bound in str(found)


@given(shapes, layouts, st.integers(1, 8))
def test_mfu_is_a_share_even_of_ideal_hardware(shape: Shape, layout: Layout, micro: int) -> None:
    assert 0 < step(shape, fits(layout, shape), micro, efficiency=IDEAL, device=FREE).mfu < 1


@given(shapes, layouts, st.sampled_from(("tensor", "context", "data")))
def test_more_devices_are_never_slower_where_messages_are_free(shape: Shape, layout: Layout, axis: str) -> None:
    wider = replace(layout, **{axis: 2 * getattr(layout, axis)})
    assume(layout.objection(shape) is None and wider.objection(shape) is None)
    tokens = wider.data * wider.rows * shape.context * 2
    before, after = (step_time(shape, each, FREE, batch_tokens=tokens).seconds for each in (layout, wider))
    assert after <= before * (1 + 1e-12)


@given(shapes, st.integers(1, 8), st.integers(1, 4))
def test_twice_the_tokens_take_twice_the_time_but_for_the_update(shape: Shape, micro: int, rows: int) -> None:
    efficiency = replace(GPU, launch=0.0)
    once, twice = (step(shape, Layout(rows=rows), k * micro, efficiency=efficiency) for k in (1, 2))
    assert twice.seconds - twice.optimizer == pytest.approx(2 * (once.seconds - once.optimizer))
    assert twice.optimizer == once.optimizer


@given(shapes, st.integers(1, 4))
def test_flops_of_one_device_are_the_shapes_own(shape: Shape, rows: int) -> None:
    done = work(shape, Layout(rows=rows), 3)
    exact = shape.flops_per_token * 3 * rows * shape.context
    assert done.products + done.attention + done.head == pytest.approx(exact)


@given(shapes, layouts)
def test_recomputing_costs_time_and_mfu(shape: Shape, layout: Layout) -> None:
    kept, again = (step(shape, replace(fits(layout, shape), recompute=how)) for how in ("none", "blocks"))
    assert again.seconds > kept.seconds
    assert again.mfu < kept.mfu
    assert again.recomputation / (kept.products + kept.attention + kept.elementwise) >= 1 / 3 - 1e-9


def test_a_bubble_shrinks_with_micro_batches_and_layers_on_a_stage() -> None:
    layout = Layout(pipeline=4)
    few, many = (step(SHAPE, layout, micro, efficiency=replace(GPU, launch=0.0), device=FREE) for micro in (4, 16))
    assert few.pipeline == pytest.approx(many.pipeline)  # (p − 1)/v layers' time, however many micro-batches
    assert many.pipeline / many.seconds < few.pipeline / few.seconds
    assert few.pipeline / (few.seconds - few.pipeline - few.optimizer) == pytest.approx(3 / (4 * 4), rel=1e-6)


def test_a_head_replaces_a_layer_where_stages_are_uneven() -> None:
    llama = RELEASED["Llama 3.1 405B"].shape
    assert (
        work(llama, Layout(pipeline=16, tensor=8), 1).head == 0
    )  # the head costs less than the layer that it replaces
    assert work(llama, Layout(pipeline=14, tensor=8), 1).head > 0


def test_messages_leave_the_node_where_their_group_does() -> None:
    link, network = GPU.link * H100.link, GPU.network * H100.network
    assert pace(H100, GPU, (8, 1)) == link
    assert pace(H100, GPU, (16, 1)) == min(link, 8 * network)  # all eight ports carry a ring's traffic
    assert pace(H100, GPU, (4, 8)) == network  # one rank of each node
    assert pace(H100, GPU, (4, 2)) == link


@given(shapes, st.integers(1, 4))
def test_what_a_program_keeps_in_its_kernels_is_not_moved(shape: Shape, rows: int) -> None:
    fused, ours = (work(shape, Layout(rows=rows), 2, "bf16", how) for how in (FUSED, Implementation(1 << 20, 512)))
    chunks = max(1.0, rows * shape.context * shape.vocab / (1 << 20))
    head = shape.vocab * shape.width
    assert ours.weights / fused.weights == pytest.approx((shape.body + chunks * head) / (shape.body + head))
    assert (ours.activations > fused.activations) == (shape.context <= 512)
    assert ours.products == fused.products


def test_an_all_reduce_passes_twice_the_gradients_less_a_share() -> None:
    said = messages(SHAPE, Layout(data=8), H100, 5, GPU, 2)
    assert said.data == pytest.approx(2 * 4 * SHAPE.total * 7 / 8 / (GPU.link * H100.link))
    assert (said.tensor, said.context, said.pipeline) == (0, 0, 0)


def test_a_long_prediction_says_what_limits_it() -> None:
    assert step(SHAPE, Layout(rows=8)).bound == "compute"
    assert step(SHAPE, Layout()).bound == "memory"  # the update takes as long however few the tokens
    assert step(SHAPE, Layout(tensor=8), device=replace(H100, link=1e9)).bound == "communication"
    assert step(SHAPE, Layout(), efficiency=replace(GPU, launch=1.0)).bound == "launches"


@pytest.mark.parametrize(
    ("layout", "tokens", "device", "words"),
    [
        (Layout(data=3), 4 * 2048, H100, "multiple of 6,144"),
        (Layout(rows=2), 2048, H100, "does not cut"),
        (Layout(), 0, H100, "does not cut"),
        (Layout(tensor=3), 2048, H100, "key-value heads"),
        (Layout(), 2048, DEVICES["M4 Max"], "no known bf16 rate"),
        (Layout(data=2), 4096, DEVICES["CPU"], "network"),
        (Layout(), 2048, DEVICES["CPU AMX"], "bandwidth"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_a_sentence(
    layout: Layout, tokens: int, device: Device, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        step_time(SHAPE, layout, device, batch_tokens=tokens)


@pytest.mark.parametrize("run", [run for run in RUNS if run.clear], ids=lambda run: run.name)
def test_published_runs_are_predicted_within_a_fifth(run: Run) -> None:
    assert abs(run.error) < 0.2, run.predict()


def test_the_largest_llamas_utilisation_is_predicted_within_two_points_of_its_range() -> None:
    for run in RUNS[:3]:
        assert "405B" in run.name
        assert 0.36 <= run.predict().mfu <= 0.45, run.name
