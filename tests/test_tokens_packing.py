"""Packing lays documents into sequences whole, loses no token, and is the same however the corpus is read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens import packing
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader, document_ids
from isoflop.tokens.packing import PADDING, Plan, best_fit, inputs

CONTEXT = 64
Write = Callable[..., Path]


def texts(lengths: list[int]) -> list[list[int]]:
    """Documents of so many ids, each recognisable by what it begins with."""
    return [[number % 250, *(i % 250 for i in range(length - 1))][:length] for number, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, write_tokens: Write) -> TokenDataset:
    """1,200 documents: empty ones, short ones, and some several times as long as the context."""
    rng = random.Random(0)
    lengths = [rng.choice([0, 1, rng.randrange(60), rng.randrange(60), rng.randrange(400)]) for _ in range(1200)]
    folder = write_tokens(tmp_path_factory.mktemp("packing") / "tokens", texts(lengths), shard_tokens=5000)
    return TokenDataset.open(folder)


def naive(lengths: list[int], room: int) -> list[list[int]]:
    """Best-fit decreasing as a textbook has it."""
    bins: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [b for b in bins if sum(b) + length <= room]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            bins.append([length])
    return bins


@given(st.lists(st.integers(2, 20), max_size=60))
def test_best_fit_is_that_of_the_textbook(lengths: list[int]) -> None:
    found = best_fit(np.array(lengths, np.int64), 20)
    fills = np.bincount(found, lengths).astype(int).tolist() if lengths else []
    assert sorted(fills) == sorted(map(sum, naive(lengths, 20)))


def test_every_token_but_the_first_of_a_piece_is_a_target_once(dataset: TokenDataset) -> None:
    plan, stream = Plan.of(dataset, "train", CONTEXT), dataset.tokens("train")[:].astype(np.int64)
    seen = np.zeros(len(stream), int)
    for start, length in zip(plan.starts.tolist(), plan.lengths.tolist(), strict=True):
        seen[start + 1 : start + length] += 1
    begins = stream == dataset.tokenizer.bos
    assert np.array_equal(seen, (~begins).astype(int))


def test_only_documents_longer_than_a_sequence_are_cut(dataset: TokenDataset) -> None:
    plan, stream = Plan.of(dataset, "train", CONTEXT), dataset.tokens("train")[:]
    begins = np.flatnonzero(stream == dataset.tokenizer.bos)
    lengths = np.diff(begins, append=len(stream))
    whole = set(zip(plan.starts.tolist(), plan.lengths.tolist(), strict=True))
    for start, length in zip(begins.tolist(), lengths.tolist(), strict=True):
        assert ((start, length) in whole) == (length <= CONTEXT + 1)
    assert plan.statistics["documents"] == len(begins)
    assert plan.statistics["cut"] == (lengths > CONTEXT + 1).sum() > 0


def test_rows_are_their_pieces_and_then_padding(dataset: TokenDataset) -> None:
    plan, tokens = Plan.of(dataset, "train", CONTEXT), dataset.tokens("train")
    rows = plan.rows(tokens, np.arange(len(plan)))
    for row, first, last in zip(rows, plan.pieces[:-1].tolist(), plan.pieces[1:].tolist(), strict=True):
        parts = [tokens[s : s + n] for s, n in zip(plan.starts[first:last], plan.lengths[first:last], strict=True)]
        text, behind = np.concatenate(parts).astype(np.int64), np.cumsum([len(part) for part in parts])[:-1]
        later = behind[text[behind] != dataset.tokenizer.bos]
        text[later] = -2 - text[later]
        assert np.array_equal(row, np.pad(text, (0, CONTEXT + 1 - len(text)), constant_values=PADDING))
    some = np.array([7, 3, 3, len(plan) - 1])
    assert np.array_equal(plan.rows(tokens, some), rows[some])


def test_loader_gives_every_packed_sequence_once_an_epoch_and_resumes_anywhere(dataset: TokenDataset) -> None:
    loader = Loader(dataset, context=CONTEXT, seed=1, packing="fit")
    plan, n = Plan.of(dataset, "train", CONTEXT), loader.samples_per_epoch
    whole = loader.batch(0, 2 * n)
    rows = plan.rows(dataset.tokens("train"), np.arange(n))
    assert n == len(plan)
    for epoch in (whole[:n], whole[n:]):
        assert np.array_equal(np.unique(epoch, axis=0), np.unique(rows, axis=0))
    for first, count in ((0, 1), (n - 1, 3), (17, 5)):
        assert np.array_equal(loader.batch(first, count), whole[first : first + count])
        assert loader.targets(first, count) == (whole[first : first + count, 1:] >= 0).sum()


def test_document_ids_leave_out_the_padding(dataset: TokenDataset) -> None:
    loader = Loader(dataset, context=CONTEXT, packing="fit")
    bos, eos = dataset.tokenizer.bos, dataset.tokenizer.eos
    assert loader.document_ids(np.array([[bos, 5, eos, bos, eos, -1]])).tolist() == [[0, 0, 0, 1, 1, -1]]


def test_no_target_is_predicted_from_another_document_but_its_begin(dataset: TokenDataset) -> None:
    plan, stream = Plan.of(dataset, "train", CONTEXT), dataset.tokens("train")
    bos = dataset.tokenizer.bos
    document = np.cumsum(stream[:] == bos)
    rows = plan.rows(stream, np.arange(len(plan)))
    assert (rows < PADDING).sum() > 5, "later pieces lie behind others"
    counted = 0
    for row, first, last in zip(rows, plan.pieces[:-1].tolist(), plan.pieces[1:].tolist(), strict=True):
        spans = [np.arange(s, s + n) for s, n in zip(plan.starts[first:last], plan.lengths[first:last], strict=True)]
        where = np.concatenate(spans)
        assert np.array_equal(inputs(row)[: len(where)], stream.take(where)), "the model reads every token"
        for column in np.flatnonzero(row[1:] >= 0) + 1:
            same = document[where[column]] == document[where[column - 1]]
            assert (same and where[column] == where[column - 1] + 1) or row[column] == bos
            counted += 1
    assert counted == plan.targets(np.arange(len(plan)))
    ids = document_ids(rows, bos)
    for row, found, first, last in zip(rows, ids, plan.pieces[:-1].tolist(), plan.pieces[1:].tolist(), strict=True):
        expected = np.repeat(np.arange(last - first), plan.lengths[first:last])
        assert np.array_equal(found[row != PADDING], expected), "a later piece is a document of its own"


def test_inputs_are_the_same_for_arrays_and_tensors() -> None:
    torch = pytest.importorskip("torch")
    row = [[7, 0, -1, -2, -9]]
    assert inputs(np.array(row)).tolist() == inputs(torch.tensor(row)).tolist() == [[7, 0, 0, 0, 7]]


def test_small_windows_and_chunks_lose_nothing(
    dataset: TokenDataset, tmp_path: Path, write_tokens: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    folder = write_tokens(tmp_path / "tokens", texts([rng.randrange(90) for _ in range(400)]), shard_tokens=1000)
    plans = []
    for window, chunk in ((1 << 20, 1 << 22), (37, 100)):
        monkeypatch.setattr(packing, "WINDOW", window)
        monkeypatch.setattr(packing, "CHUNK", chunk)
        opened = TokenDataset.open(folder)
        plans.append(Plan.of(opened, "train", CONTEXT))
        next(folder.glob("packing-*")).rename(tmp_path / f"plan-{window}")
    one, two = plans
    for name in ("starts", "lengths"):
        assert np.array_equal(np.sort(getattr(one, name)), np.sort(getattr(two, name)))
    assert one.fills.sum() == two.fills.sum()
    assert len(one) <= len(two) <= len(one) + 400 // 37 + 1


def test_long_tails_pack_almost_without_padding(tmp_path: Path, write_tokens: Write) -> None:
    lengths = np.random.default_rng(0).lognormal(5.5, 1.1, 4000).astype(int)
    dataset = TokenDataset.open(write_tokens(tmp_path / "tokens", [[1] * int(length) for length in lengths]))
    assert Plan.of(dataset, "train", 1024).statistics["used"] > 0.998


def test_other_tokens_have_another_plan(dataset: TokenDataset) -> None:
    Plan.of(dataset, "train", CONTEXT)
    Plan.of(dataset, "train", 32)
    assert {path.name for path in dataset.folder.glob("packing-*")} >= {
        f"packing-{packing.VERSION}-train-{context}-{dataset.manifest.fingerprint[:16]}" for context in (32, CONTEXT)
    }


def test_packing_is_for_one_context(dataset: TokenDataset) -> None:
    with pytest.raises(ValueError, match="packed for one context"):
        Loader(dataset, context=32, block=64, packing="fit")
