"""Schedules are functions of tokens consumed, and branches may only leave a trunk they agree with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.planning.hyperparameters import batch_ramp, peak_learning_rate
from isoflop.planning.schedule import BatchRamp, Schedule, agree

RAMP = BatchRamp(2048, (3_145_728, 10_485_760))


def test_wsd_warms_up_holds_and_decays_to_the_floor() -> None:
    schedule = Schedule(1000, 0.1, warmup_tokens=100, decay_tokens=200, floor=0.1)
    rates = [schedule.learning_rate(t) for t in range(1001)]
    assert rates[0] > 0
    assert all(a < b for a, b in zip(rates[:100], rates[1:101], strict=True))
    assert set(rates[100:801]) == {0.1}
    assert all(a > b for a, b in zip(rates[800:1000], rates[801:], strict=True))
    assert rates[1000] == pytest.approx(0.01)
    assert rates[850] == pytest.approx(0.1 * (0.1 + 0.9 * (1 - math.sqrt(50 / 200))))


def test_cosine_is_half_a_cosine_to_the_floor() -> None:
    schedule = Schedule(1100, 1.0, warmup_tokens=100, kind="cosine", floor=0.1)
    assert schedule.learning_rate(100) == pytest.approx(1.0)
    assert schedule.learning_rate(600) == pytest.approx(0.55)
    assert schedule.learning_rate(1100) == pytest.approx(0.1)
    assert schedule.learning_rate(2000) == pytest.approx(0.1)


@given(st.integers(1, 10**8))
def test_steps_end_exactly_on_the_aligned_total(tokens: int) -> None:
    ramp = BatchRamp(100_000, (1_000_000, 7_300_000))
    boundary = 0
    for start in ramp.steps(tokens):
        assert start == boundary
        boundary += ramp.at(start)
    assert boundary == ramp.align(tokens) >= tokens


def test_batch_doubles_at_each_threshold() -> None:
    assert [RAMP.at(t) for t in (0, 3_145_727, 3_145_728, 10_485_760)] == [2048, 2048, 4096, 8192]


@given(st.floats(1e6, 1e13))
def test_batch_rule_stays_within_a_factor_of_two_of_step_law(tokens: float) -> None:
    ramp = BatchRamp(*batch_ramp(1e14, first=2048))
    law = max(2048, 0.581 * tokens**0.571)
    assert 0.5 < ramp.at(int(tokens)) / law < 2


def test_ramp_does_not_depend_on_how_long_the_run_is() -> None:
    short, long = batch_ramp(1e7)[1], batch_ramp(1e12)[1]
    assert long[: len(short)] == short


def test_learning_rate_falls_with_the_cube_root_of_size() -> None:
    assert peak_learning_rate(8e6) == pytest.approx(peak_learning_rate(1e6) / 2)


def test_branch_agrees_with_its_trunk_until_it_decays_and_not_beyond() -> None:
    trunk = Schedule(10_000, 0.01, warmup_tokens=500)
    branch = Schedule(6000, 0.01, warmup_tokens=500, decay_tokens=1000)
    assert agree(trunk, branch, 5000)
    assert not agree(trunk, branch, 5500)
    assert not agree(trunk, Schedule(6000, 0.011, 500, 1000), 5000)
    assert not agree(trunk, Schedule(6000, 0.01, 501, 1000), 5000)
    assert not agree(trunk, Schedule(6000, 0.01, 500, kind="cosine"), 5000)


@pytest.mark.parametrize("numbers", [(0, 0.1), (10, 0.0), (10, 0.1, 8, 3)])
def test_schedule_that_cannot_be_followed_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="schedule needs|do not fit"):
        Schedule(*numbers)


def test_descending_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending thresholds"):
        BatchRamp(64, (200, 100))
