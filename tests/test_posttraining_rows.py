"""Rows: every example whole and once, its targets behind what leads up to them, no more places than there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.posttraining.rows import Example, Fitted, held_out, lay, packed, pieces, row_length
from isoflop.tokens.packing import PADDING

LENGTH = 24


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    """Examples that have a target and fit into a row."""
    found = []
    for _ in range(draw(st.integers(1, 12))):
        ids = draw(st.lists(st.integers(0, 99), min_size=2, max_size=LENGTH + 1))
        marks = draw(st.lists(st.booleans(), min_size=len(ids) - 1, max_size=len(ids) - 1).filter(any))
        found.append(Example.of(ids, [False, *marks]))
    return found


@given(examples())
def test_rows_hold_every_example_once_with_its_targets(given_examples: list[Example]) -> None:
    rows = packed(np.array([example.size for example in given_examples]), LENGTH)
    assert sorted(number for row in rows for number in row) == list(range(len(given_examples)))
    laid = lay([[given_examples[number] for number in row] for row in rows], LENGTH)
    for tokens, targets, documents, row in zip(laid.tokens, laid.targets, laid.documents, rows, strict=True):
        for place, number in enumerate(row):
            example, mine = given_examples[number], documents == place
            assert tokens[mine].tolist() == example.ids[: example.size].tolist()
            wanted = np.where(example.trained, example.ids, PADDING)[1 : example.size + 1]
            assert targets[mine].tolist() == wanted.tolist()
        assert (targets[documents == len(row)] == PADDING).all()
    flat = laid.targets.flatten()
    assert sorted(laid.aims[laid.aims != PADDING].tolist()) == sorted(flat[flat != PADDING].tolist())
    assert len(set(laid.places.tolist())) == len(laid.places)
    assert len(laid.places) in {len(flat) / 2**halved for halved in range(9)}
    assert len(laid.places) < 2 * (flat != PADDING).sum() or len(laid.places) % 2


def test_an_example_in_a_row_is_what_it_is_alone() -> None:
    model = Llama(Shape(2, 32, 4, 2, 64, 100, context=LENGTH)).initialise(0)
    rng = np.random.default_rng(0)
    found = [Example.of(rng.integers(0, 100, n).tolist(), [True] * n) for n in (9, 6, 8)]
    laid = lay([found], LENGTH)
    with torch.no_grad():
        together = model.hidden(laid.tokens, laid.documents)[0]
        for number, example in enumerate(found):
            alone = model.hidden(torch.from_numpy(example.ids[: example.size]).long()[None])[0]
            torch.testing.assert_close(together[laid.documents[0] == number], alone, rtol=1e-4, atol=1e-5)


def test_what_follows_the_last_target_takes_no_place() -> None:
    example = Example.of([5, 6, 7, 8, 9], [True, False, True, False, False])
    assert (example.size, example.targets) == (2, 1)
    assert lay([[example]], 4).targets.tolist() == [[-1, 7, -1, -1]]


def test_long_examples_are_cut_or_dropped_and_counted() -> None:
    answer_fits = Example.of([1] * 8, [False] * 6 + [True] * 2)
    answer_cut = Example.of([1] * 12, [False] * 6 + [True] * 6)
    answer_lost = Example.of([1] * 12, [False] * 10 + [True] * 2)
    fitted = Fitted.of([answer_fits, answer_cut, answer_lost], 8)
    assert [example.targets for example in fitted.examples] == [2, 3]
    assert (fitted.cut, fitted.dropped) == (1, 1)
    with pytest.raises(ValueError, match="train on nothing: 1 have no answer of an assistant, and of 1 the answer"):
        Fitted.of([answer_lost, Example.of([1, 2], [False, False])], 8)


def test_pieces_are_powers_of_two_and_miss_nothing() -> None:
    assert [len(piece) for piece in pieces(range(23), 9)] == [8, 8, 4, 2, 1]
    assert [len(piece) for piece in pieces(range(3), 0)] == [1, 1, 1]
    assert [row for piece in pieces(range(23), 9) for row in piece] == list(range(23))


def test_rows_are_as_long_as_the_longest_example_and_the_context_at_most() -> None:
    assert [row_length(longest, 100) for longest in (0, 1, 64, 65, 100)] == [64, 64, 64, 100, 100]


def test_held_out_examples_depend_on_their_prompts_alone() -> None:
    prompts = [Example.of([n, n + 1, 7, 8], [False, False, True, True]).prompt_hash for n in range(2000)]
    apart = held_out(prompts, 0.1)
    assert 0.07 < apart.mean() < 0.13
    assert held_out(prompts[500:700], 0.1).tolist() == apart[500:700].tolist()
    assert set(np.flatnonzero(held_out(prompts, 0.05))) <= set(np.flatnonzero(apart))
    other_answer = Example.of([3, 4, 9], [False, False, True]).prompt_hash
    assert other_answer == prompts[3]
