"""n-gram models: probabilities that sum to one, and agree with counting in dictionaries."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus import CorpusError, documents
from isoflop.corpus.models.ngram import LanguageModel, NgramConfig, train_language_model
from isoflop.corpus.models.ngram_counts import count, keys_of
from isoflop.corpus.models.ngram_smoothing import estimated, levels
from isoflop.corpus.models.vocabulary import BEGIN, END, build
from isoflop.corpus.models.words import words

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
TEXTS = [
    "a law of scale is a law",
    "the law of the small model",
    "a small law is a law of scale",
    "scale the model",
    "a",
]
BITS = 8


def tables(sequences: list[list[int]], order: int) -> Any:
    """Counts of every order as dictionaries: raw at the top, numbers of left neighbours below, and raw everywhere."""
    raw: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
    left: list[dict[tuple[int, ...], set[int]]] = [defaultdict(set) for _ in range(order + 1)]
    for sequence in sequences:
        padded = [BEGIN] * (order - 1) + sequence
        for end in range(order - 1, len(padded)):
            for length in range(1, order + 1):
                gram = tuple(padded[end - length + 1 : end + 1])
                raw[length][gram] += 1
                if length < order:
                    left[length][gram].add(padded[end - length])
    kneser_ney = [raw[n] if n == order else Counter({g: len(s) for g, s in left[n].items()}) for n in range(order + 1)]
    return raw, kneser_ney


def kneser_ney(counts: Any, gram: tuple[int, ...], size: int, discounts: Any) -> float:
    """The formula, a gram at a time."""
    if not gram:
        return 1.0 / (size - 1)
    lower = kneser_ney(counts, gram[1:], size, discounts)
    inside = {g: c for g, c in counts[len(gram)].items() if g[:-1] == gram[:-1]}
    if not inside:
        return lower
    d = [0.0, *discounts[len(gram) - 1]]
    total = sum(inside.values())
    own = inside.get(gram, 0)
    return (own - d[min(own, 3)] + sum(d[min(c, 3)] for c in inside.values()) * lower) / total


def stupid_backoff(raw: Any, gram: tuple[int, ...], size: int) -> float:
    if not gram:
        return 1.0 / (size - 1)
    if raw[len(gram)][gram]:
        return raw[len(gram)][gram] / sum(c for g, c in raw[len(gram)].items() if g[:-1] == gram[:-1])
    return 0.4 * stupid_backoff(raw, gram[1:], size)


def model_of(sequences: list[list[int]], order: int, smoothing: Any, given: Any = None) -> LanguageModel:
    """A model over numbers below 2**BITS."""
    keys = np.concatenate([keys_of(np.array(s, np.uint64), order, BITS, BEGIN)[-1] for s in sequences])
    distinct, counts = np.unique(keys, return_counts=True)
    vocabulary = build(["a b c d e f g h i j k l m n o p q r s t " * 2], 256)
    config = NgramConfig(order, 256, smoothing)
    return LanguageModel(config, vocabulary, levels(distinct, counts, order, BITS, smoothing, given))


sequences_of_numbers = st.lists(
    st.lists(st.integers(3, 9), max_size=8).map(lambda s: [*s, END]), min_size=1, max_size=6
)


@given(
    sequences_of_numbers,
    sequences_of_numbers,
    st.integers(1, 4),
    st.sampled_from(["kneser_ney", "modified_kneser_ney"]),
)
@settings(deadline=None, max_examples=60)
def test_kneser_ney_agrees_with_dictionaries(sequences: Any, asked: Any, order: int, smoothing: Any) -> None:
    model = model_of(sequences, order, smoothing)
    _, counts = tables(sequences, order)
    discounts = [estimated(np.array(list(counts[n].values())), smoothing) for n in range(1, order + 1)]
    for sequence in asked:
        padded = (BEGIN,) * (order - 1) + tuple(sequence)
        expected = [
            kneser_ney(counts, padded[i : i + order], model.vocabulary.size, discounts) for i in range(len(sequence))
        ]
        np.testing.assert_allclose(model.probabilities(np.array(sequence, np.uint64)), expected, rtol=1e-5)


@given(sequences_of_numbers, sequences_of_numbers, st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_stupid_backoff_agrees_with_dictionaries(sequences: Any, asked: Any, order: int) -> None:
    model = model_of(sequences, order, "stupid_backoff")
    raw, _ = tables(sequences, order)
    for sequence in asked:
        padded = (BEGIN,) * (order - 1) + tuple(sequence)
        expected = [stupid_backoff(raw, padded[i : i + order], model.vocabulary.size) for i in range(len(sequence))]
        np.testing.assert_allclose(model.probabilities(np.array(sequence, np.uint64)), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", ["kneser_ney", "modified_kneser_ney"])
@given(sequences=sequences_of_numbers, context=st.lists(st.integers(3, 9), max_size=5), order=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_probabilities_after_any_context_sum_to_one(sequences: Any, context: Any, order: int, smoothing: Any) -> None:
    model = model_of(sequences, order, smoothing)
    everything = [n for n in range(model.vocabulary.size) if n != BEGIN]
    total = sum(model.probabilities(np.array([*context, n], np.uint64))[-1] for n in everything)
    assert total == pytest.approx(1.0, abs=1e-5)


def test_bigrams_agree_with_nltk() -> None:
    lm = pytest.importorskip("nltk.lm")
    sequences = [[3, 4, 5, 3, 4, END], [4, 5, 6, END], [3, 4, 6, 6, 5, END]]
    theirs = lm.KneserNeyInterpolated(2, discount=0.3)
    padded = [[str(BEGIN), *map(str, s)] for s in sequences]
    grams = ([(w,) for w in s] + list(itertools.pairwise(s)) for s in padded)
    theirs.fit(grams, vocabulary_text=[str(n) for n in range(10)])
    model = model_of(sequences, 2, "kneser_ney", [(0.0, 0.0, 0.0), (0.3, 0.3, 0.3)])  # nltk's unigrams have no discount
    for before, word in itertools.product([3, 4, 5, 6], [3, 4, 5, 6, END]):
        ours = model.probabilities(np.array([before, word], np.uint64))[-1]
        assert ours == pytest.approx(theirs.unmasked_score(str(word), (str(before),)), rel=1e-5)


def test_a_strange_text_has_a_finite_surprise(tmp_path: Path) -> None:
    model = train_language_model(lambda: TEXTS * 3, tmp_path / "model")
    found = model.surprise(["", " \n", "law", "zzzz 漢字", "\ud800", "x" * 5000])
    assert all(math.isfinite(s.nats) and s.nats > 0 for s in found)
    assert [s.words for s in found] == [1, 1, 2, 4, 1, 2]


def test_surprise_does_not_depend_on_the_company(tmp_path: Path) -> None:
    model = train_language_model(lambda: TEXTS * 3, tmp_path / "model")
    alone = [model.surprise([text])[0].nats for text in TEXTS]
    np.testing.assert_allclose([s.nats for s in model.surprise(TEXTS)], alone, rtol=1e-12)


def test_unknown_words_are_spelled_and_counted_once() -> None:
    vocabulary = build(["law law scale scale"], 256)
    known, many = vocabulary.encode("law scale")
    spelled, few = vocabulary.encode("clew")
    assert (len(known), many, len(spelled), few) == (3, 2, 5, 1)


def test_counts_do_not_depend_on_the_size_of_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 50, size=n).astype(np.uint64) for n in (0, 1, 300, 7, 500)]
    for run in (1 << 20, 64, 10):
        folder = tmp_path / str(run)
        folder.mkdir()
        count(iter(parts), folder, run)
        keys, counts = np.unique(np.concatenate(parts), return_counts=True)
        np.testing.assert_array_equal(np.load(folder / "keys.npy"), keys)
        np.testing.assert_array_equal(np.load(folder / "counts.npy"), counts)
        assert len(list(folder.iterdir())) == 2


def test_training_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_language_model(lambda: TEXTS * 2, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_models_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no room in 64 bits"):
        NgramConfig(order=5, vocabulary=1 << 16)
    with pytest.raises(CorpusError, match="larger reference"):
        train_language_model(lambda: ["", " "], tmp_path / "model")
    with pytest.raises(CorpusError, match="train it again"):
        LanguageModel.load(tmp_path / "absent")


@given(st.text(max_size=60))
@settings(deadline=None)
def test_words_lie_in_order_and_hash_by_what_they_are(text: str) -> None:
    found = words(text)
    assert (found.starts < found.ends).all()
    assert (found.ends[:-1] <= found.starts[1:]).all()
    covered = set(itertools.chain.from_iterable(map(range, found.starts.tolist(), found.ends.tolist())))
    assert all(not text[i].isalnum() for i in range(len(text)) if i not in covered)
    alone = [words(text[a:b]).hashes for a, b in zip(found.starts, found.ends, strict=True)]
    assert [int(h) for hashes in alone for h in hashes] == found.hashes.tolist()


def test_long_text_has_the_words_of_its_parts() -> None:
    part = "the law of scale, " * 3
    times = (1 << 20) // len(part) + 10
    assert words(part * times).hashes.tolist() == words(part).hashes.tolist() * times


@pytest.mark.skipif(not CORPUS.exists(), reason="the shared corpus is not here")
def test_text_of_the_same_kind_surprises_less(tmp_path: Path) -> None:
    def some(name: str, first: int, last: int) -> list[str]:
        return [d.text for d in itertools.islice(documents(CORPUS / name), first, last)]

    model = train_language_model(lambda: some("math/planetmath.jsonl.zst", 0, 400), tmp_path / "model")
    near = np.median([s.per_word for s in model.surprise(some("math/planetmath.jsonl.zst", 400, 500))])
    far = np.median([s.per_word for s in model.surprise(some("general/18f-blog.jsonl.zst", 0, 60))])
    foreign = np.median([s.per_word for s in model.surprise(some("multilingual/gesetze.jsonl.zst", 0, 10))])
    assert near + 0.5 < far < foreign
