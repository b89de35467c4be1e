"""Schedules are functions of tokens consumed, and branches may only leave a trunk they agree with."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from isoflop.planning.hyperparameters import batch_ramp, peak_learning_rate
from isoflop.planning.schedule import BatchRamp, ContextRamp, Doubling, Schedule, agree

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


@given(
    st.integers(1, 64), st.sets(st.integers(0, 500), max_size=5), st.integers(0, 600), st.integers(0, 600).filter(bool)
)
def test_stages_cut_any_stretch_into_parts_of_one_value(
    first: int, thresholds: set[int], start: int, more: int
) -> None:
    ramp = Doubling(first, tuple(sorted(thresholds)))
    values = [stage.value for stage in ramp.stages(start, start + more) for _ in range(stage.start, int(stage.end))]
    assert values == [ramp.at(consumed) for consumed in range(start, start + more)]


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=4), st.integers(0, 3))
def test_context_aligned_with_batches_grows_at_the_first_whole_block_after_each_wish(
    wishes: set[int], power: int
) -> None:
    batch, longest = BatchRamp(16 << power, (1600, 4800)), 16 << len(wishes)
    fits = [boundary for boundary in batch.steps(20_000) if boundary % longest == 0]
    expected = [next((boundary for boundary in fits if boundary >= wish), None) for wish in sorted(wishes)]
    assume(None not in expected and len(set(expected)) == len(wishes))
    assert ContextRamp.aligned(16, sorted(wishes), batch) == ContextRamp(16, tuple(expected))


def test_alignment_that_no_step_has_is_said() -> None:
    odd = BatchRamp(16, (16, 48))  # 16 tokens, one step of 32, then 64 each: 0, 16, 48, 112, 176, …
    assert odd.align(40, 16) == 48
    with pytest.raises(ValueError, match="ascending thresholds"):
        ContextRamp.aligned(16, (3, 5), BatchRamp(64))  # both wishes at 64
    with pytest.raises(ValueError, match="no step from 112 tokens on begins at a multiple of 64 tokens"):
        odd.align(100, 64)


def test_context_that_grows_inside_a_block_is_refused_with_a_place_that_fits() -> None:
    assert [ContextRamp(8, (64, 96)).at(t) for t in (0, 63, 64, 95, 96)] == [8, 8, 16, 16, 32]
    with pytest.raises(ValueError, match="at multiples of that, which 72 tokens are not; move that threshold to 96"):
        ContextRamp(8, (72, 128))


def test_ramps_agree_as_long_as_their_sequences_and_their_order_are_the_same() -> None:
    ramp = ContextRamp(8, (64, 128, 256))
    later = ContextRamp(8, (64, 128, 512))
    assert ramp.agrees(later, 128)
    assert not ramp.agrees(later, 129)  # the third stage is shuffled over another stretch
    assert ramp.agrees(ramp, 10**9)
    assert not ramp.agrees(ContextRamp(16, (128, 256)), 10**9)
    assert not ContextRamp(8).agrees(ContextRamp(8, (1024,)), 64)  # other blocks from the first token on


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
    with pytest.raises(ValueError, match="ascending thresholds"):
        ContextRamp(8, (128, 64))
