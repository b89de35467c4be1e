"""The three stages as one schedule: phases of the rate, rope by stage, averaging and gates as functions of tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from isoflop.planning.averaging import Averaging
from isoflop.planning.averaging import agree as same_average
from isoflop.planning.gates import Gates, places
from isoflop.planning.phases import Phase
from isoflop.planning.rope import RopeScaling
from isoflop.planning.schedule import ContextRamp, RopeStage, Schedule, agree, check_ropes, rope_at
from isoflop.planning.shape import Shape

LLAMA_3 = Schedule(
    1000, 8e-5, 20, kind="phases", phases=(Phase(800, "cosine", 0.01), Phase(900, "hold"), Phase(1000, "linear", 0.0))
)


def test_cosine_then_held_then_linear_to_zero() -> None:
    rates = [LLAMA_3.learning_rate(t) for t in range(1001)]
    assert rates[0] == 8e-5 / 21
    assert rates[20] == 8e-5 == max(rates)
    for consumed in range(20, 801):
        progress = (consumed - 20) / 780
        assert rates[consumed] == pytest.approx(8e-7 + (8e-5 - 8e-7) * (1 + math.cos(math.pi * progress)) / 2)
    assert rates[800:900] == [pytest.approx(8e-7)] * 100
    assert rates[900:] == pytest.approx([8e-7 * (1 - i / 100) for i in range(101)])
    assert rates[1000] == 0 == LLAMA_3.learning_rate(5000)
    assert LLAMA_3.annealing == 900


@pytest.mark.parametrize("floor", [0.0, 0.1, 1 / 3])
def test_shorthands_are_their_phases_to_the_bit(floor: float) -> None:
    wsd, cosine = Schedule(5000, 3e-3, 100, 1000, floor=floor), Schedule(5000, 3e-3, 100, kind="cosine", floor=floor)
    spelt = {
        wsd: (Phase(4000, "hold"), Phase(5000, "sqrt", floor)),
        cosine: (Phase(5000, "cosine", floor),),
    }
    for short, phases in spelt.items():
        long = Schedule(5000, 3e-3, 100, kind="phases", phases=phases)
        assert long.descent == short.descent
        assert [long.learning_rate(t) for t in range(0, 5100, 7)] == [short.learning_rate(t) for t in range(0, 5100, 7)]
        assert agree(short, long, 5000)
    for consumed in range(4000, 5000, 9):  # what the shorthand always meant, in its own arithmetic
        old = 3e-3 * (floor + (1 - floor) * (1 - math.sqrt((consumed - 4000) / 1000)))
        assert wsd.learning_rate(consumed) == old
    for consumed in range(100, 5000, 9):
        old = 3e-3 * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * ((consumed - 100) / 4900))))
        assert cosine.learning_rate(consumed) == old


def test_schedules_that_differ_in_a_late_phase_agree_before_it() -> None:
    other = replace(LLAMA_3, phases=(*LLAMA_3.phases[:2], Phase(1000, "cosine", 0.0)))
    assert agree(LLAMA_3, other, 901)
    assert not agree(LLAMA_3, other, 903)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": (Phase(900, "hold"),)}, "the last at the run's 1,000, not at 900"),
        ({"phases": (Phase(20, "hold"), Phase(1000, "hold"))}, "beyond the warmup's 20 tokens"),
        ({"phases": (Phase(900, "hold"), Phase(800, "hold"), Phase(1000, "hold"))}, "one after another"),
        ({"phases": ()}, 'kind = "phases", and only there'),
        ({"kind": "wsd"}, 'kind = "phases", and only there'),
        ({"decay_tokens": 10}, "decay_tokens and floor are the shorthands'"),
    ],
)
def test_phases_that_cannot_be_followed_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LLAMA_3, **changes)  # type: ignore[arg-type]


def test_phase_has_a_level_unless_it_is_held() -> None:
    with pytest.raises(ValueError, match="or is held and has none"):
        Phase(10, "cosine")
    with pytest.raises(ValueError, match="or is held and has none"):
        Phase(10, "hold", 0.1)
    with pytest.raises(ValueError, match="share of the peak"):
        Phase(10, "linear", -0.1)


def test_rope_is_that_of_the_stage_in_force_and_ends_as_the_shapes() -> None:
    shape = Shape(2, 16, 2, 1, 32, 300, context=64, rope_theta=1e4, rope_scaling=RopeScaling(original=16))
    stages = (RopeStage(0, 1e3), RopeStage(100, 1e4), RopeStage(200, 1e4, RopeScaling(original=16)))
    check_ropes(stages, shape)
    assert [rope_at(stages, t).at for t in (0, 99, 100, 199, 200, 10**9)] == [0, 0, 100, 100, 200, 200]
    with pytest.raises(ValueError, match="a shape's rope is what its training ends with"):
        check_ropes(stages[:2], shape)
    with pytest.raises(ValueError, match="must begin at 0 tokens and one after another"):
        check_ropes(stages[1:], shape)


def test_states_are_averaged_at_each_multiple_that_a_step_passes() -> None:
    rule = Averaging(100, 25)
    steps = list(range(0, 260, 10))
    assert [now for before, now in pairwise(steps) if rule.due(before, now)] == [130, 150, 180, 200, 230, 250]
    every = Averaging(100)
    assert [now for before, now in pairwise(steps) if every.due(before, now)] == steps[11:]


def test_averages_agree_until_one_of_them_begins() -> None:
    assert same_average(None, Averaging(100), 100)
    assert not same_average(None, Averaging(100), 101)
    assert not same_average(Averaging(100), Averaging(100, 5), 101)
    assert same_average(Averaging(100), Averaging(100), 10**9)


def test_gates_stand_at_the_end_of_every_long_context_stage() -> None:
    ramp = ContextRamp(8, (640, 1280, 1920))
    annealed = Schedule(4000, 0.1, decay_tokens=1000)
    found = places(Gates(), ramp, annealed)
    assert [(g.tokens, g.start, g.context, g.opens, g.first) for g in found] == [
        (640, 0, 8, "context 16", True),
        (1280, 640, 16, "context 32", False),
        (1920, 1280, 32, "context 64", False),
        (3000, 1920, 64, "annealing", False),
    ]
    from_32 = places(Gates(short=16), ramp, Schedule(4000, 0.1))
    assert [(g.tokens, g.context, g.first) for g in from_32] == [(1280, 16, True), (1920, 32, False), (4000, 64, False)]
    assert places(Gates(), ContextRamp(8), annealed) == places(Gates(short=64), ramp, annealed) == []


@pytest.mark.parametrize("wrong", [{"tolerance": -1.0}, {"needle": 1.5}, {"trials": 0}])
def test_conditions_that_cannot_be_met_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a gate needs"):
        Gates(**wrong)  # type: ignore[arg-type]
