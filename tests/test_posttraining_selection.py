"""What a round learns from: no two alike, the better kept, categories in their shares, manners within their limits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.posttraining.selection import clusters_of, counts_of, difficulty, distinct, embed, good, mix, unit
from isoflop.posttraining.wording import manners, tempered


def test_an_embedding_is_the_mean_final_state_whatever_shares_its_batch() -> None:
    model = Llama(Shape(2, 32, 4, 2, 48, 64, context=96)).initialise(0)
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, 64, length).tolist() for length in (5, 70, 33, 96, 120, 1)]
    found = embed(model, texts)
    for text, vector in zip(texts, found, strict=True):
        mean = model.hidden(torch.tensor([text[:96]]))[0].mean(0).detach().double().numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-6)


def test_clusters_find_groups_that_are_far_apart() -> None:
    draw = np.random.default_rng(1)
    centres = unit(np.eye(8)[:3])
    vectors = unit(centres[np.arange(60) % 3] + 0.05 * draw.normal(size=(60, 8)))
    found = clusters_of(vectors, 12)
    for cluster in np.unique(found):
        assert len(set(np.flatnonzero(found == cluster) % 3)) == 1


@given(st.integers(0, 1000), st.floats(0.5, 1.0), st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_of_those_alike_the_best_is_kept(seed: int, threshold: float, count: int) -> None:
    draw = np.random.default_rng(seed)
    vectors, scores = unit(draw.normal(size=(count, 3))), draw.random(count)
    kept = distinct(vectors, scores, threshold, clusters=1)
    alike = vectors @ vectors.T
    for one in kept:
        assert all(one == other or alike[one, other] <= threshold for other in kept)
    for number in set(range(count)) - set(kept.tolist()):
        assert any(alike[number, one] > threshold and scores[one] >= scores[number] for one in kept)


def test_copies_are_found_in_any_cluster() -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(50, 6)))
    doubled, scores = np.concatenate([vectors, vectors]), np.concatenate([np.zeros(50), np.ones(50)])
    assert distinct(doubled, scores, 0.999).tolist() == list(range(50, 100))
    with pytest.raises(ValueError, match="not 1.5"):
        distinct(vectors, scores[:50], 1.5)


def test_good_is_the_top_quartile_and_hard_what_is_answered_wrong_at_length() -> None:
    assert good(np.arange(8.0)).tolist() == [False] * 6 + [True] * 2
    assert not len(good(np.zeros(0)))
    hard = difficulty(np.array([1.0, 0.5, 0.0]), np.array([10.0, 10.0, 30.0]))
    assert hard.tolist() == [0.0, 0.25, 1.0]


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    st.dictionaries(st.sampled_from("abc"), st.floats(0.01, 10), min_size=1),
    st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_a_mix_has_its_shares_and_repeats_evenly(categories: list[str], shares: dict[str, float], total: int) -> None:
    if set(shares) - set(categories):
        with pytest.raises(ValueError, match="no example"):
            mix(categories, shares, total)
        return
    chosen = mix(categories, shares, total).tolist()
    counts = counts_of(shares, total)
    assert sum(counts.values()) == len(chosen) == total
    taken = Counter(chosen)
    for name, count in counts.items():
        own = [number for number, category in enumerate(categories) if category == name]
        assert sum(taken[number] for number in own) == count
        assert max(taken[number] for number in own) - min(taken[number] for number in own) <= 1
        assert abs(count - total * shares[name] / sum(shares.values())) < 1


def test_a_mix_of_nothing_is_refused() -> None:
    for shares in ({}, {"a": 0.0}, {"a": 1.0, "b": -1.0}):
        with pytest.raises(ValueError, match="above 0"):
            mix(["a"], shares, 3)
    with pytest.raises(ValueError, match="one example or more"):
        mix(["a"], {"a": 1.0}, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but no.", ("apology",)),
        ("I’m so sorry!!!", ("apology", "exclamations")),
        ("  As an AI language model I", ("apology",)),
        ("Sorry is a word.", ("apology",)),
        ("He said: I'm sorry.", ()),
        ("Great 🎉🎉🎉", ("emoji",)),
        ("Well done! Really!", ()),
        ("Sortie", ()),
    ],
)
def test_manners_are_those_of_a_reader(text: str, expected: tuple[str, ...]) -> None:
    assert manners(text) == expected


def test_manners_are_kept_within_their_share_and_never_wiped_out() -> None:
    answers = [f"answer {n}" for n in range(90)] + [f"I'm sorry {n}" for n in range(10)]
    kept, left_out = tempered(answers, 0.05)
    assert kept[:90] == list(range(90))
    assert len(kept) == 95
    assert left_out == {"apology": 5, "exclamations": 0, "emoji": 0}
    turned = [answers[-1 - n] for n in range(100)]
    assert {turned[n] for n in tempered(turned, 0.05)[0]} == {answers[n] for n in kept}
    assert len(tempered(answers, 0.001)[0]) == 91
    assert len(tempered(answers, 0.0)[0]) == 90
    assert tempered([], 0.1) == ([], {"apology": 0, "exclamations": 0, "emoji": 0})
