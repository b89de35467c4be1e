"""Plans on hardware: layouts fit, the smallest is the smallest, costs add up, and impossible wishes are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from isoflop.planning.architecture import architecture
from isoflop.planning.duration import parse_budget
from isoflop.planning.hardware import device
from isoflop.planning.placement import Job, fits, phases, place, whole
from isoflop.planning.recipe import recipe
from isoflop.planning.released import RELEASED
from isoflop.planning.resources import Resources
from isoflop.planning.serving import ROOM, Serving
from isoflop.planning.shape import Shape


def on(name: str, count: int | None = None) -> Resources:
    return Resources.of(parse_budget("1e22"), name, count, None)


def job(shape: Shape, tokens: float, resources: Resources) -> Job:
    run = recipe(shape, tokens, devices=resources.devices or 1)
    return Job(shape, run, resources, 0, run.tokens)


LLAMA_8B = RELEASED["Llama 3 8B"].shape


@pytest.mark.parametrize(("name", "size"), [("H100", 8e9), ("H100", 70e9), ("A100-40", 8e9), ("RTX 4090", 1.2e9)])
def test_the_fewest_devices_fit_and_half_of_them_do_not(name: str, size: float) -> None:
    shape = architecture(size, 128_256, context=8192, counts="total").shape
    (placed,) = place(shape, recipe(shape, 20 * size), on(name))
    assert fits(placed.memory, device(name))
    count = placed.cost.devices
    assert placed.layout.devices == count
    if count > 1:
        lean = job(shape, 20 * size, on(name)).leanest(count // 2)
        assert lean is not None
        assert not fits(lean, device(name))
        assert placed.smaller is not None
        assert f"on {count // 2:,} {device(name).name} one would need" in placed.smaller


def test_no_layout_of_the_same_devices_that_fits_is_faster() -> None:
    work = job(LLAMA_8B, 1e12, on("H100", 16))
    found = work.fastest(16)
    assert found is not None
    for layout in work.layouts(16):
        if fits(work.on.memory(work.longest, layout), device("H100")):
            assert work.on.step(work.longest, layout, work.batch).seconds >= found[2].seconds


def test_layouts_use_every_device_and_divide_the_batch() -> None:
    work = job(RELEASED["Llama 3 70B"].shape, 1e12, on("H100", 96))
    found = list(work.layouts(96))
    assert found
    for layout in found:
        assert layout.devices == 96
        assert work.batch % (layout.data * layout.rows * work.context) == 0
        assert layout.objection(work.longest) is None


def test_a_run_that_starts_with_small_batches_takes_longer_than_its_largest_would() -> None:
    work = job(LLAMA_8B, 1e12, on("H100", 1024))
    found = work.fastest(1024)
    assert found is not None
    steady = work.recipe.tokens / found[2].tokens_per_second
    assert steady < work.seconds(found[0]) < 1.5 * steady


def test_cost_of_a_growing_context_is_the_sum_of_its_phases() -> None:
    shape = architecture(8e9, 128_256, context=131_072, counts="total").shape
    run = recipe(shape, 1e12, first_context=8192)
    placed = place(shape, run, on("H100", 256))
    assert [p.context for p in placed] == [8192, 131_072]
    cost = whole(placed)
    assert cost is not None
    assert cost.flops == pytest.approx(run.flops(shape))
    assert cost.seconds == pytest.approx(sum(p.cost.seconds for p in placed))
    assert cost.device_hours == pytest.approx(256 * cost.seconds / 3600)
    assert cost.mfu == pytest.approx(cost.flops / (cost.seconds * 256 * device("H100").rate()))
    assert sum(phase.flops() for phase in phases(shape, run, on("H100"))) == pytest.approx(run.flops(shape))
    assert json.loads(json.dumps([p.to_json() for p in placed]))


def test_a_given_mfu_and_price_overrule_the_estimate() -> None:
    run = recipe(LLAMA_8B, 1e12)
    (placed,) = place(LLAMA_8B, run, on("H100", 64), mfu=0.2, price=1.0)
    hours = run.flops(LLAMA_8B) / (0.2 * device("H100").rate()) / 3600
    assert placed.cost.device_hours == pytest.approx(hours)
    assert placed.cost.dollars == pytest.approx(hours)


def test_without_a_device_nothing_is_placed() -> None:
    assert place(LLAMA_8B, recipe(LLAMA_8B, 1e12), Resources.of(parse_budget("1e15"), None, None, None)) == ()
    assert whole(()) is None


def test_too_few_devices_are_refused_with_the_part_that_does_not_fit_and_how_many_would_do() -> None:
    shape = RELEASED["Llama 3 70B"].shape
    with pytest.raises(ValueError, match=r"on 2 L4 one would need .* GB \(optimizer.*can be used; \d+ would do"):
        place(shape, recipe(shape, 1e12), on("L4", 2))


def test_resources_are_those_of_the_budget_unless_others_are_given() -> None:
    text = parse_budget("64 A100 x 3 days")
    assert Resources.of(text, None, None, None).devices == 64
    given = Resources.of(text, "H100", 8, None)
    assert (given.device, given.devices) == (device("H100"), 8)
    assert Resources.of(parse_budget("1e23"), None, None, None).device == device("H100")
    with pytest.raises(ValueError, match="not measured; run isoflop plan --calibrate"):
        Resources.of(None, None, None, None)
    with pytest.raises(ValueError, match="0 devices train nothing"):
        Resources.of(text, None, 0, None)


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("where", ["12 GB", "16 GB", "24GB", "RTX 4090", "80 GB"])
def test_the_largest_model_that_fits_does_and_the_next_does_not(where: str, weights: str) -> None:
    place_ = Serving.on(where, weights)
    largest = place_.largest(32_000, 4096)
    assert place_.fits(largest)
    assert place_.needs(largest).total > 0.75 * ROOM * place_.memory  # the ladder's steps are finer than a quarter
    bytes_each = {"bf16": 2.0, "int8": 1.0, "int4": 0.5}[weights]
    assert largest.total * bytes_each < place_.memory


def test_what_people_say_of_cards_holds() -> None:
    llama_2_7b, llama_3_70b = RELEASED["Llama 2 7B"].shape, RELEASED["Llama 3 70B"].shape
    assert not Serving.on("12 GB", "bf16").fits(llama_2_7b)
    assert Serving.on("16 GiB", "bf16").fits(replace(llama_2_7b, context=2048))
    assert Serving.on("12 GB", "int8").fits(llama_2_7b)
    assert not Serving.on("80 GB", "bf16").fits(llama_3_70b)
    assert Serving.on("80 GB", "int4").fits(llama_3_70b)


@pytest.mark.parametrize(("where", "weights", "words"), [
    ("24 GB", "int3", "cannot be held in 'int3'; choose"),
    ("0 GB", "bf16", "holds no model"),
    ("a toaster", "bf16", "no device 'a toaster'"),
    ("CPU AMX", "bf16", "memory of CPU AMX is not known"),
])  # fmt: skip
def test_places_that_are_none_are_refused(where: str, weights: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Serving.on(where, weights)


def test_memory_too_small_for_any_model_is_refused_with_the_smallest() -> None:
    with pytest.raises(ValueError, match="holds no Llama with a vocabulary of 128,256"):
        Serving.on("1 GB", "bf16").largest(128_256, 8192)
    assert math.isfinite(Serving.on("4 GB", "int4").largest(512, 256).total)


@pytest.mark.parametrize("devices", [64, 1024])
def test_the_quick_bound_never_rules_out_a_layout_that_fits(devices: int) -> None:
    work = job(RELEASED["Llama 3 70B"].shape, 1e12, on("H100", devices))
    layouts = list(work.layouts(devices))
    assert layouts
    for layout in layouts:
        assert work.on.at_least(work.longest, layout) <= work.on.memory(work.longest, layout).total
