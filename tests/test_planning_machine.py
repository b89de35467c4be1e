"""What was measured of this machine: remembered, given back, and not used once the machine is another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from isoflop.planning.efficiency import Efficiency
from isoflop.planning.hardware import DEVICES
from isoflop.planning.layout import Layout
from isoflop.planning.machine import (
    Machine,
    Timing,
    machine,
    processor_name,
    remembered,
    torch_version,
)
from isoflop.planning.shape import Shape
from isoflop.planning.throughput import step_time
from isoflop.processors import processors

SHAPE = Shape(2, 64, 2, 1, 128, 512, context=128)
HERE = Machine(
    device=replace(DEVICES["CPU"], link=2e9, per_node=2),
    dtype="bf16",
    eager=Efficiency(products=0.5, launch=1e-5),
    compiled=Efficiency(products=0.6, launch=1e-6),
    compile_seconds=12.0,
    base_memory=400_000_000,
    processor=processor_name(),
    cores=len(processors()),
    ranks=2,
    torch=torch_version(),
    measured="2026-01-02T03:04:05+00:00",
    timings=(Timing(SHAPE, 8, 2, 2, True, 0.02, 50, 9.5),),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_measurement_comes_back_as_it_was_saved(cache: Path) -> None:
    assert machine() is None
    assert HERE.save() == remembered() == cache / "isoflop" / "machine.json"
    assert machine() == HERE
    without = replace(HERE, compiled=None, timings=())
    without.save()
    assert machine() == without


def test_without_a_cache_folder_of_its_own_it_goes_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert remembered() == Path("/somewhere/.cache/isoflop/machine.json")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("processor", "another CPU", "processor was another CPU"),
        ("cores", len(processors()) + 1, f"number of cores was {len(processors()) + 1}"),
        ("torch", "1.0", "torch was 1.0"),
    ],
)
def test_a_machine_that_changed_is_named_and_not_used(field: str, value: object, words: str) -> None:
    replace(HERE, **{field: value}).save()
    with pytest.raises(ValueError, match=words) as error:
        machine()
    assert "2026-01-02" in str(error.value)
    assert "isoflop plan --calibrate" in str(error.value)


def test_processors_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    text = (
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: x\n"
    )
    names = []
    for model in (1, 17):
        (tmp_path / "cpuinfo").write_text(text.format(model))
        names.append(processor_name(tmp_path / "cpuinfo"))
    assert names == ["AMD EPYC, family 25, model 1", "AMD EPYC, family 25, model 17"]
    assert processor_name(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": 3}'])
def test_a_file_that_is_no_measurement_is_refused_in_a_sentence(cache: Path, text: str) -> None:
    (cache / "machine.json").write_text(text)
    with pytest.raises(ValueError, match="machine.json is no measurement of a machine"):
        machine(cache / "machine.json")
    with pytest.raises(ValueError, match="there is no measurement"):
        Machine.load(cache / "none.json")


def test_a_step_here_is_the_roofline_with_the_machines_own_shares() -> None:
    step = HERE.step_time(SHAPE, batch_tokens=4096, micro_tokens=1024)
    same = step_time(
        SHAPE, Layout(data=2, rows=8), HERE.device, batch_tokens=4096, efficiency=HERE.compiled, dtype="bf16"
    )
    assert step == same
    assert HERE.step_time(SHAPE, batch_tokens=4096, compiled=False).seconds > step.seconds
    assert HERE.flops_per_second(SHAPE, batch_tokens=4096) == pytest.approx(6 * SHAPE.matmul * 4096 / step.seconds)


def test_compiled_steps_are_not_promised_where_nothing_compiles() -> None:
    without = replace(HERE, compiled=None)
    assert without.efficiency() == without.eager
    with pytest.raises(ValueError, match="install a C"):
        without.efficiency(compiled=True)


def test_the_measurement_prints_what_was_measured() -> None:
    text = str(HERE)
    assert all(word in text for word in (HERE.processor, "442 GFLOP/s in bf16", "400 MB", "eager", "compiled"))
    json.dumps(HERE.to_json())
