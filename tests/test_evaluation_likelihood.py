"""Likelihoods are those of transformers on context and continuation read anew, and what is shared is read once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from isoflop.evaluation.likelihood import Scorer, at_boundary
from isoflop.evaluation.pieces import Pair, Score, beginnings, windows
from isoflop.evaluation.reading import Reader
from isoflop.inference.branches import Branches
from isoflop.inference.cache import Cache
from isoflop.inference.decoder import Decoder
from isoflop.model.convert import to_transformers
from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.tokens import Tokenizer, train_tokenizer

SHAPE = Shape(2, 64, 4, 2, 96, 300, context=128, tied=False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> Llama:
    model = Llama(SHAPE).initialise(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # so that scores differ by more than rounding
    return model


@pytest.fixture(scope="module")
def decoder(model: Llama) -> Decoder:
    return Decoder(model)


@pytest.fixture(scope="module")
def theirs(model: Llama) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config, weights = to_transformers(model)
    peer = LlamaForCausalLM(LlamaConfig(**config, bos_token_id=0, eos_token_id=1, pad_token_id=0))
    peer.load_state_dict(weights)
    return peer.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the law of the land is a law – naïve 日本語 🙂"] * 40, 300)


@torch.no_grad()
def expected(theirs: Any, pair: Pair, room: int = SHAPE.context) -> Score:
    """The harness's arithmetic: context and continuation in one row, cut from the left, one row at a time."""
    context, continuation = pair
    if not continuation:
        return Score(0.0, 0, True)
    ids = (context + continuation)[-(room + 1) :]
    logprobs: Tensor = theirs(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)[-len(continuation) :]
    target = torch.tensor(continuation)
    total = float(logprobs.gather(1, target[:, None]).sum())
    return Score(total, len(continuation), bool((logprobs.argmax(-1) == target).all()))


def texts(count: int, longest: int, seed: int = 0) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    return [tuple(draw.randrange(300) for _ in range(draw.randint(1, longest))) for _ in range(count)]


def agree(found: list[Score], wanted: list[Score]) -> None:
    assert [f.logprob for f in found] == pytest.approx([w.logprob for w in wanted], rel=2e-5)
    assert [(f.tokens, f.greedy) for f in found] == [(w.tokens, w.greedy) for w in wanted]


def test_scores_are_those_of_transformers_for_any_lengths_and_any_neighbours(decoder: Decoder, theirs: Any) -> None:
    draw = random.Random(1)
    pairs = [
        (context, continuation)
        for context in texts(25, 150)
        for continuation in [(), *texts(draw.randint(1, 4), 30, seed=draw.randrange(99))]
    ]
    draw.shuffle(pairs)
    for tokens in (1, 300, 4096):
        found = Reader(decoder, tokens).score(pairs)
        agree(found, [expected(theirs, pair) for pair in pairs])
    assert [score.cut for score in found] == [max(0, len(c) + max(1, len(x)) - 129) for c, x in pairs]


def test_shared_beginnings_change_no_score(decoder: Decoder, theirs: Any) -> None:
    beginning = texts(1, 1)[0] * 70
    contexts = [beginning, beginning[:66], *(beginning + each for each in texts(8, 25, seed=5)), *texts(3, 100, seed=6)]
    pairs = [(context, continuation) for context in contexts for continuation in texts(3, 20, seed=7)]
    agree(Reader(decoder).score(pairs), [expected(theirs, pair) for pair in pairs])


def test_the_likeliest_continuation_is_told_from_others(decoder: Decoder, model: Llama) -> None:
    context = texts(1, 40, seed=2)[0]
    ids = torch.tensor([context])
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), 1)
    likeliest = tuple(ids[0, len(context) :].tolist())
    other = (*likeliest[:-1], (likeliest[-1] + 1) % 300)
    assert [score.greedy for score in Reader(decoder).score([(context, likeliest), (context, other)])] == [True, False]


def test_a_continuation_longer_than_the_context_is_scored_to_its_end(decoder: Decoder, theirs: Any) -> None:
    (context,), (long,) = texts(1, 20, seed=3), [texts(1, 1, seed=s)[0] * 300 for s in (4,)]
    parts = list(windows(context, long, 128, 128))
    assert sum((tuple(part) for _, part in parts), ()) == long
    wanted = sum(expected(theirs, part).logprob for part in parts)
    (found,) = Reader(decoder).score([(context, long)])
    assert found.logprob == pytest.approx(wanted, abs=1e-3)
    assert found.tokens == 300


class Counting(Decoder):
    """Counts the tokens that it reads, and the places that it makes logits of."""

    tokens = places = longest_row = 0

    def read(
        self, tokens: Tensor, cache: Cache, *, real: Tensor | None = None, branches: Branches | None = None
    ) -> Tensor:
        states = super().read(tokens, cache, real=real, branches=branches)
        self.tokens += len(states)
        self.longest_row = max(self.longest_row, tokens.shape[1])
        return states

    def logits(self, states: Tensor) -> Tensor:
        self.places += len(states)
        return super().logits(states)


def test_each_context_is_read_once_for_all_its_choices_and_a_shared_beginning_once_for_all(model: Llama) -> None:
    beginning = tuple(range(80))
    contexts = [(*beginning, 200 + n, 7, 8, 9) for n in range(5)]
    choices = [(1, 2, 3), (4, 5), (6,)]
    counting = Counting(model)
    Reader(counting).score([(context, choice) for context in contexts for choice in choices * 2])
    assert counting.tokens == 80 + 5 * 4 + 5 * (2 + 1)
    assert counting.places == 5 * (1 + 2 + 1)


def test_many_continuations_of_a_short_context_do_not_all_stand_beside_each_other(model: Llama) -> None:
    counting = Counting(model)
    Reader(counting).score([((0,), text) for text in texts(200, 30, seed=9)])
    assert counting.longest_row <= 64


def test_an_empty_context_or_a_foreign_id_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="bos"):
        Reader(decoder).score([((), (1,))])
    with pytest.raises(ValueError, match="300"):
        Reader(decoder).score([((1,), (300,))])


def test_white_space_before_the_boundary_goes_to_the_continuation(decoder: Decoder, tokenizer: Tokenizer) -> None:
    assert at_boundary("the law \n", "of") == ("the law", " \nof")
    scorer = Scorer(decoder, tokenizer)
    assert scorer.score([("the law ", "of")]) == scorer.score([("the law", " of")])
    bos = tokenizer.bos
    (empty, blank) = scorer.encode([("", "the"), ("  ", "the")])
    assert empty == ((bos,), tuple(tokenizer.encode("the")))
    assert blank == ((bos,), tuple(tokenizer.encode("  the")))


def test_boundary_is_that_of_the_whole_text(decoder: Decoder, tokenizer: Tokenizer) -> None:
    for context, continuation in [("the law", " of the land"), ("the l", "and"), ("naï", "ve 日本"), ("x", "")]:
        ((left, right),) = Scorer(decoder, tokenizer).encode([(context, continuation)])
        inside = tokenizer.encode(context)
        assert left == (tokenizer.bos, *inside)
        assert right == tuple(tokenizer.encode(context + continuation)[len(inside) :] or tokenizer.encode(continuation))


def test_text_that_spells_control_is_scored_as_text(decoder: Decoder, tokenizer: Tokenizer) -> None:
    ((_, right),) = Scorer(decoder, tokenizer).encode([("the", "<|end_of_text|>")])
    assert tokenizer.eos not in right
    assert len(right) > 1


@given(st.integers(1, 9), st.integers(0, 30), st.integers(1, 8), st.data())
def test_windows_predict_every_token_once_behind_as_much_as_fits(
    before: int, count: int, room: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, room))
    context, continuation = tuple(range(before)), tuple(range(100, 100 + count))
    parts = list(windows(context, continuation, room, stride))
    assert sum((right for _, right in parts), ()) == continuation
    whole, seen = context + continuation, before
    for left, right in parts:
        assert left
        assert whole[:seen][-len(left) :] == left
        assert len(left) + max(1, len(right)) == min(room + 1, seen + max(1, len(right)))
        seen += len(right)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9).map(tuple), unique=True), st.integers(1, 5))
def test_beginnings_are_shared_and_leave_something(contexts: list[tuple[int, ...]], shortest: int) -> None:
    groups = list(beginnings(contexts, shortest))
    assert sorted(context for _, group in groups for context in group) == sorted(contexts)
    for prefix, group in groups:
        assert not prefix or (len(prefix) >= shortest and len(group) > 1)
        assert all(context[: len(prefix)] == prefix and len(context) > len(prefix) for context in group)


def test_stated_settings_of_other_shapes_score_alike(tokenizer: Tokenizer) -> None:
    shape = replace(SHAPE, qk_norm=True, attention_cap=20.0, logit_cap=10.0)
    model = Llama(shape).initialise(1)
    pairs = [(context, continuation) for context in texts(4, 60) for continuation in texts(3, 9, seed=8)]
    for (context, continuation), found in zip(pairs, Reader(Decoder(model)).score(pairs), strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([context + continuation]))[0, len(context) - 1 : -1].log_softmax(-1)
        wanted = float(logprobs.gather(1, torch.tensor(continuation)[:, None]).sum())
        assert found.logprob == pytest.approx(wanted, rel=2e-5)
