"""Calibration: the fit finds known shares in made-up timings, and a miniature of the real thing works end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isoflop.model import attention
from isoflop.model.attention import SHORT
from isoflop.planning.efficiency import Efficiency
from isoflop.planning.hardware import DEVICES
from isoflop.planning.layout import Layout
from isoflop.planning.machine import Machine, Timing
from isoflop.planning.throughput import step_time
from isoflop.planning.work import ROWS, Implementation
from isoflop.training import calibrate
from isoflop.training.calibrate import PROBES, Probe, Stepper, fit, product_rate, time_steps
from isoflop.training.loss import CHUNK_ELEMENTS

CPU, OURS = DEVICES["CPU"], Implementation(CHUNK_ELEMENTS, SHORT)
TINY = tuple(
    Probe(p, vocab, context, rows, micro)
    for p, vocab, context, rows, micro in (
        (2e4, 64, 16, 4, 1),
        (2e4, 64, 128, 1, 1),
        (2e4, 128, 32, 8, 2),
        (1e5, 64, 32, 4, 1),
        (1e5, 1024, 16, 8, 1),
    )
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_up(efficiency: Efficiency) -> list[Timing]:
    """Timings as the roofline has them under given shares."""
    timings = []
    for probe in PROBES:
        batch = probe.micro * probe.rows * probe.context
        step = step_time(probe.shape, Layout(rows=probe.rows), CPU, batch_tokens=batch, efficiency=efficiency)
        timings.append(Timing(probe.shape, probe.rows, probe.micro, 1, False, step.seconds, 3, 0.0))
    return timings


@pytest.mark.parametrize(
    "known",
    [
        Efficiency(products=0.7, attention=0.1, elementwise=1.5, bandwidth=0.9, launch=2e-6, implementation=OURS),
        Efficiency(products=1.0, attention=0.3, elementwise=0.4, bandwidth=0.5, launch=0.0, implementation=OURS),
    ],
)
def test_the_fit_finds_the_shares_that_made_the_timings(known: Efficiency) -> None:
    found = fit(made_up(known), CPU, "bf16", OURS)
    assert found.implementation == OURS
    for name in (*calibrate.SHARES, "launch"):
        assert getattr(found, name) == pytest.approx(getattr(known, name), rel=1e-6, abs=1e-12), name


def test_shares_stay_within_their_bounds_whatever_the_timings() -> None:
    factors = (1e-3, 30, 1e-3, 30, 1e-3, 30, 1e-3)
    sound = made_up(Efficiency(implementation=OURS))
    absurd = [replace(timing, seconds=timing.seconds * by) for timing, by in zip(sound, factors, strict=True)]
    found = fit(absurd, CPU, "bf16", OURS)
    for name, (low, high) in calibrate.SHARES.items():
        assert low <= getattr(found, name) * (1 + 1e-9)
        assert getattr(found, name) <= high * (1 + 1e-9)
    assert found.launch >= 0


def test_the_count_cuts_rows_as_attention_does() -> None:
    assert ROWS == attention.ROWS


def test_too_few_timings_are_refused() -> None:
    with pytest.raises(ValueError, match="4 timings cannot fix 5 shares"):
        fit(made_up(Efficiency(implementation=OURS))[:4], CPU, "bf16", OURS)


def test_a_step_is_the_loops_step_and_learns() -> None:
    stepper = Stepper(TINY[0].shape, 4, 2, torch.device("cpu"), compiled=False)
    for group in stepper.optimizer.param_groups:
        group["lr"] = 0.01
    before = [p.detach().clone() for p in stepper.model.parameters()]
    assert stepper() > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, stepper.model.parameters(), strict=True))
    assert all(p.grad is None for p in stepper.model.parameters())


def test_a_timing_counts_its_steps_and_the_median_is_one_of_them() -> None:
    probe = TINY[0]
    timing = time_steps(probe.shape, probe.rows, probe.micro, torch.device("cpu"), compiled=False, seconds=0.0)
    assert timing.steps == calibrate.LEAST
    assert timing.batch_tokens == 64
    assert timing.seconds > 0


def test_larger_products_are_tried_only_while_time_allows() -> None:
    assert product_rate(torch.float32, torch.device("cpu"), sizes=(32, 1 << 20), seconds=0.01) > 0


def test_a_miniature_calibration_measures_fits_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SIZES", (64,))
    monkeypatch.setattr(calibrate, "compile_for", lambda *_: (False, "eager, to be quick"))
    done = []
    found = calibrate.calibrate(TINY, seconds=0.05, report=lambda _, at, total: done.append((at, total)))
    assert done == [(i + 1, len(TINY)) for i in range(len(TINY))]
    assert found.compiled is None
    assert found.outdated() is None
    assert found.base_memory > 50e6
    assert found.device.bandwidth is not None
    assert found.device.bandwidth > 1e8
    assert found.save(tmp_path / "m.json").exists()
    assert Machine.load(tmp_path / "m.json") == found
    for timing in found.timings:  # a fit of five shares to five tiny, noisy timings, so only the order of magnitude
        assert 0.2 < found.predict(timing).seconds / timing.seconds < 5
