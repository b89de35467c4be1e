"""Predicted memory agrees with autograd's saved tensors, with the allocator, with the system, and with publications."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isoflop.model import attention
from isoflop.model.llama import Llama
from isoflop.planning import block_memory as block_module
from isoflop.planning import memory
from isoflop.planning.block_memory import block_memory
from isoflop.planning.experts import Experts
from isoflop.planning.layout import Layout, Recompute, Sharding
from isoflop.planning.memory import (
    BF16,
    FULL,
    MIXED,
    ZERO,
    Engine,
    Numerics,
    Stage,
    Step,
    inference_memory,
    training_memory,
)
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import Shape
from isoflop.training import loss as loss_module
from isoflop.training.config import OptimizerConfig
from isoflop.training.hardware import has_compiler
from isoflop.training.loss import cross_entropy
from isoflop.training.optimizer import build_optimizer

EAGER = Engine(compiled=False, device="cpu")
COMPILED = Engine(compiled=True, device="cpu")
BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "memory.py"
MHA = Shape(2, 64, 4, 4, 224, 96, context=128)
SHAPES = [
    MHA,
    replace(MHA, kv_heads=1, context=256, tied=False),  # two blocks of query rows, grouped queries
    replace(MHA, kv_heads=2, context=200),  # a last block of rows that is not full
    replace(MHA, kv_heads=2, context=640),  # torch's fused attention
    replace(MHA, context=1024, ffn=96, width=32, tied=False),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def saved_bytes(shape: Shape, rows: int, numerics: Numerics, *, compiled: bool = False) -> int:
    """What autograd saves in a forward pass up to the final norm: storages, each once, without the model's own."""
    compute = torch.float32 if numerics.compute == 4 else torch.bfloat16
    model = Llama(shape, compute=compute, compiled=compiled).initialise(0)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    storages: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    tokens = torch.zeros(rows, shape.context, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.hidden(tokens)
    assert hidden.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def predicted_saved(shape: Shape, rows: int, numerics: Numerics, engine: Engine) -> float:
    """The same by arithmetic: blocks, their weights' copies, and the final norm's two fp32 tensors and its scale."""
    block = block_memory(shape, rows, numerics, engine)
    final = rows * shape.context * (2 * shape.width + 1) * 4
    return shape.layers * (block.kept + numerics.copy * shape.layer_matrices) + final


@pytest.mark.parametrize(("shape", "numerics"), list(itertools.product(SHAPES, [FULL, BF16])))
def test_eager_block_keeps_exactly_what_autograd_saves(shape: Shape, numerics: Numerics) -> None:
    assert predicted_saved(shape, 2, numerics, EAGER) == saved_bytes(shape, 2, numerics)


@pytest.mark.parametrize("numerics", [FULL, BF16])
@pytest.mark.parametrize("change", [{"experts": Experts(4, 2)}, {"attention_cap": 9.0, "context": 640}])
def test_experts_and_capped_scores_are_counted(change: dict[str, Any], numerics: Numerics) -> None:
    shape = replace(MHA, **change)
    assert predicted_saved(shape, 2, numerics, EAGER) == pytest.approx(saved_bytes(shape, 2, numerics), rel=0.002)


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_compiled_block_keeps_what_the_partitioner_saves() -> None:
    predicted = predicted_saved(MHA, 2, BF16, COMPILED)
    assert predicted == pytest.approx(saved_bytes(MHA, 2, BF16, compiled=True), rel=0.02)


@pytest.mark.parametrize("recompute", ["none", "blocks"])
@pytest.mark.parametrize("numerics", [FULL, BF16])
@pytest.mark.parametrize("shape", [replace(MHA, vocab=4096), replace(MHA, ffn=512), replace(MHA, context=640)])
def test_peak_of_a_step_is_what_the_allocator_held(
    peak_bytes: Callable[[Callable[[], object]], int], shape: Shape, numerics: Numerics, recompute: Recompute
) -> None:
    compute = torch.float32 if numerics.compute == 4 else torch.bfloat16
    model = Llama(shape, compute=compute, recompute=recompute).initialise(0)
    optimizer = build_optimizer(model, OptimizerConfig())
    tokens = torch.randint(shape.vocab, (4, shape.context + 1), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        hidden = model.hidden(tokens[:, :-1])
        cross_entropy(hidden, model.head, tokens[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # the optimiser's moments are there from the second step on
    layout = Layout(rows=4, recompute=recompute)
    predicted = training_memory(shape, layout, numerics=numerics, engine=EAGER, accumulate=False, base=0.0)
    own = predicted.total - predicted.weights - predicted.optimizer
    assert own == pytest.approx(peak_bytes(step), rel=0.03)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("case", ["kept", pytest.param("recomputed", marks=pytest.mark.slow)])
def test_prediction_is_within_a_tenth_of_a_training_process(case: str) -> None:
    command = [sys.executable, str(BENCHMARK), "--json", "--threads", "1", "--steps", "2", "--only", case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert line["measured"] > 0.25e9
    assert line["predicted"] == pytest.approx(line["measured"], rel=0.1)


def test_constants_are_those_of_the_code_they_describe() -> None:
    assert (block_module.SHORT, block_module.ROWS, memory.CHUNK) == (
        attention.SHORT,
        attention.ROWS,
        loss_module.CHUNK_ELEMENTS,
    )


@pytest.mark.parametrize(
    ("sharding", "gigabytes"), [("none", 120), ("optimizer", 31.4), ("gradients", 16.6), ("weights", 1.9)]
)
def test_model_states_are_those_of_zeros_figure_1(sharding: Sharding, gigabytes: float) -> None:
    shape = RELEASED["Llama 2 7B"].shape
    found = training_memory(shape, Layout(data=64, sharding=sharding), numerics=ZERO)
    per_parameter = (found.weights + found.gradients + found.optimizer) / shape.total
    assert 7.5 * per_parameter == pytest.approx(gigabytes, abs=0.051)


def test_published_sizes_of_weights_and_caches() -> None:
    assert inference_memory(RELEASED["Llama 2 7B"].shape).weights == pytest.approx(13.48e9, rel=1e-3)
    assert inference_memory(RELEASED["Llama 3.1 405B"].shape).weights == pytest.approx(811.7e9, rel=1e-3)
    assert inference_memory(RELEASED["Llama 3 8B"].shape, context=8192).cache == 2**30
    grouped, full = RELEASED["Llama 2 70B"].shape, replace(RELEASED["Llama 2 70B"].shape, kv_heads=64)
    assert inference_memory(full).cache == 8 * inference_memory(grouped).cache


def test_quantised_weights_carry_their_scales_and_leave_embeddings_in_16_bits() -> None:
    shape = Shape(2, 256, 2, 2, 512, 1000)
    found = inference_memory(shape, weights="int4").weights
    assert found == shape.body * (4 + 16 / 128) / 8 + 2 * (shape.total - shape.body)
    sizes = [inference_memory(shape, weights=w).weights for w in ("int4", "int8", "bf16", "fp32")]
    assert sizes == sorted(sizes)


def test_llama_3_405b_fits_its_layout_and_not_a_narrower_one() -> None:
    shape, device = RELEASED["Llama 3.1 405B"].shape, 80e9
    published = training_memory(shape, Layout(8, 1, 16, 128, sharding="gradients"), numerics=MIXED)
    assert published.fits(device, 1.0)
    assert not training_memory(shape, Layout(8, 1, 8, 256, sharding="gradients"), numerics=MIXED).fits(device, 1.0)


LAYOUTS = st.builds(
    Layout,
    tensor=st.sampled_from([1, 2, 4]),
    context=st.sampled_from([1, 2]),
    pipeline=st.sampled_from([1, 2, 4, 6]),
    data=st.sampled_from([1, 2, 8]),
    sharding=st.sampled_from(["none", "optimizer", "gradients", "weights"]),
    recompute=st.sampled_from(["none", "blocks"]),
    rows=st.sampled_from([1, 2, 8]),
)
WIDE = Shape(16, 512, 8, 4, 1792, 8192, context=1024, tied=False)


@settings(deadline=None, max_examples=150)
@given(layout=LAYOUTS, numerics=st.sampled_from([FULL, BF16, MIXED]), compiled=st.booleans(), accumulate=st.booleans())
def test_memory_is_its_parts_and_falls_with_what_is_meant_to_save(
    layout: Layout, numerics: Numerics, compiled: bool, accumulate: bool
) -> None:
    def total(layout: Layout) -> float:
        if layout.objection(WIDE):
            return 0.0
        found = training_memory(WIDE, layout, numerics=numerics, engine=Engine(compiled), accumulate=accumulate)
        assert found.total == sum(found.parts.values()) == found.to_json()["total"]
        assert min(found.parts.values()) >= 0
        return found.total

    base = total(layout)
    if base:
        assert total(replace(layout, rows=2 * layout.rows)) >= base
        assert total(replace(layout, recompute="blocks")) <= base * 1.001
        if layout.replicas > 1:
            assert total(replace(layout, sharding="optimizer")) <= total(replace(layout, sharding="none"))


def test_stages_hold_all_layers_once() -> None:
    layout = Layout(pipeline=6)  # 16 layers, and embedding and head as one each: 2, 3, 3, 3, 3, 2
    shape = WIDE
    steps = [Step(shape, layout, FULL, EAGER, stage, True, 0.0) for stage in memory.stages(shape, layout, None)]
    first, last, between = (step.parameters for step in steps)
    assert first + last + 4 * between == shape.total
    assert [step.stage.in_flight for step in steps] == [6, 1, 5]


def test_whole_model_on_one_stage_has_all_its_parameters() -> None:
    for model in RELEASED.values():
        step = Step(model.shape, Layout(), FULL, EAGER, Stage(model.shape.layers, True, True, 1), True, 0.0)
        assert step.parameters == model.parameters


def test_full_logits_dwarf_chunks_at_a_large_vocabulary() -> None:
    shape = replace(WIDE, vocab=128_256)
    chunked, full = (training_memory(shape, Layout(rows=8), engine=Engine(loss=way)) for way in ("chunked", "full"))
    assert full.loss == 8 * shape.context * shape.vocab * 14
    assert full.loss > 8 * chunked.loss


def test_layout_that_does_not_fit_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="4 key-value heads do not divide over 8"):
        training_memory(WIDE, Layout(tensor=8))
    with pytest.raises(ValueError, match="give at least 1 of each"):
        inference_memory(WIDE, batch=0)


def test_table_names_the_parts_largest_first() -> None:
    lines = str(training_memory(WIDE, Layout(rows=8))).splitlines()
    assert lines[0].startswith("total")
    sizes = [float(line.split()[-2]) for line in lines[1:]]
    assert sizes == sorted(sizes, reverse=True)
