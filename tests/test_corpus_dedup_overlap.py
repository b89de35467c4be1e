"""Books contained in books, and spans repeated across documents."""

import numpy as np
import pytest
from dedup import kept, prose, run, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus.dedup import runs
from isoflop.corpus.dedup.anchors import anchors
from isoflop.corpus.dedup.books import BookOverlap
from isoflop.corpus.dedup.codepoints import Hashes, batches
from isoflop.corpus.dedup.substring import RepeatedSpans, cut_out, united
from isoflop.corpus.stage import Dropped

BOOKS = BookOverlap(scale=4)


def books():
    """A novel, collected works that hold 95% of it, another edition, and two that share a licence or a half."""
    rng = np.random.default_rng(0)
    novel, others, licence, lone = (prose(rng, n, 10**6) for n in (4000, 20000, 300, 5000))
    works = others[:9000] + novel[100:3900] + others[9000:]
    edition = novel[:2000] + ["revised"] * 3 + novel[2000:]
    half = novel[:2000] + prose(rng, 2500, 10**6)
    return [" ".join(words) for words in (novel, works, half, edition, licence + lone, licence + others[:40])]


def test_a_book_in_collected_works_goes_and_half_a_book_stays(tmp_path):
    verdicts = run(BOOKS, books(), tmp_path / "a", [2])
    assert kept(verdicts) == [1, 2, 4, 5]
    assert isinstance(verdicts[0], Dropped)
    assert verdicts[0].reason == "overlaps with another book"


def test_a_corpus_without_books_is_judged_too(tmp_path):
    assert run(BOOKS, [], tmp_path / "a") == []
    assert kept(run(BOOKS, ["a short text"], tmp_path / "b")) == [0]


def test_of_equal_books_the_first_stays_and_chains_are_not_followed(tmp_path):
    rng = np.random.default_rng(1)
    words = prose(rng, 6000, 10**6)
    a, b, c = words[:4000], words[150:4150], words[300:4300]  # neighbours overlap by 96%, the ends by 92%
    texts = [" ".join(w) for w in (a, a, words[:3000], words[700:4700])]
    assert kept(run(BOOKS, texts, tmp_path / "a", [1, 2])) == [0, 3]
    assert len(kept(run(BOOKS, [" ".join(w) for w in (a, b, c)], tmp_path / "b"))) == 1


def test_what_too_many_books_share_does_not_count(tmp_path):
    rng = np.random.default_rng(2)
    licence = prose(rng, 4000, 10**6)
    texts = [" ".join(licence + prose(rng, 300, 10**6)) for _ in range(12)]
    assert len(kept(run(BookOverlap(scale=4, common=5, least=10), texts, tmp_path / "a"))) == 12
    assert len(kept(run(BookOverlap(scale=4, common=50, least=10), texts, tmp_path / "b"))) == 1


def test_anchors_are_in_every_window_and_picked_by_what_is_near(tmp_path):
    rng = np.random.default_rng(0)
    span = "".join(rng.choice(list("abc d"), 900))
    texts = [span, "x" * 40 + span, "other " * 30 + span + "yy" * 30, "", "abc"]
    q, window = 8, 50
    (batch,) = batches(texts, gap=window + q)
    found = anchors(batch, Hashes(batch.points), q, window)
    own = [found[(found >= s) & (found < e)] - s for s, e in zip(batch.starts, batch.ends, strict=True)]
    for text, places in zip(texts[:3], own, strict=False):
        edges = np.concatenate([[-1], places, [len(text) - q + 1]])
        assert np.diff(edges).max() <= window
    assert not len(own[3])
    assert not len(own[4])
    for shift, places in ((40, own[1]), (180, own[2])):
        inner = places - shift
        assert set(own[0][(own[0] >= window) & (own[0] < 840)]) == set(inner[(inner >= window) & (inner < 840)])


def alphabet(rng, length):
    return "".join(rng.choice(list("abcdefgh "), length))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(150, 600))
def test_long_repeated_spans_go_but_for_their_edges_and_nothing_else_is_touched(tmp_path_factory, seed, length):
    rng = np.random.default_rng(seed)
    span = "".join(rng.choice(list("abcdefgh"), length))
    heads = [alphabet(rng, int(rng.integers(0, 300))) for _ in range(4)]
    heads = [heads[0] + "1", "2" + heads[1], heads[2] + "3", "4" + heads[3]]  # the span ends where it ends
    texts = [heads[0] + span + heads[1], heads[2] + span + heads[3]]
    stage = RepeatedSpans(characters=100, window=50, q=8)
    first, second = texts_of(run(stage, texts, tmp_path_factory.mktemp("s") / "s", [1]))
    assert first == texts[0]
    assert len(second) < len(texts[1]) - length + 2 * 50 + 2
    assert second.startswith(heads[2])
    assert second.endswith(heads[3])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_what_is_cut_stands_earlier_for_any_cut_into_shards(tmp_path_factory, seed, letters):
    """The oracle: every stretch that was cut, found in the texts before it by plain search."""
    rng = np.random.default_rng(seed)
    pieces = ["".join(rng.choice(list("abc\n")[:letters], int(rng.integers(1, 60)))) for _ in range(6)]
    texts = ["".join(pieces[i] for i in rng.integers(0, 6, 5)) for _ in range(8)]
    stage = RepeatedSpans(characters=20, window=10, q=4)
    folder = tmp_path_factory.mktemp("s")
    left = texts_of(run(stage, texts, folder / "whole"))
    assert left == texts_of(run(stage, texts, folder / "cut", [2, 2, 5]))
    cuts = runs.merged(sorted((folder / "whole" / "cuts").glob("*.npy")), 1 << 20)
    for label, start, end in (cut for piece in cuts for cut in piece.tolist()):
        assert texts[label][end - 20 : end] in "\0".join([*texts[:label], texts[label][: end - 1]])
        assert end - start <= 20
    assert "".join(texts[0][:20]) == (left[0] or texts[0])[:20]


def test_a_copy_of_a_document_goes_whole_and_a_short_one_stays(tmp_path):
    rng = np.random.default_rng(3)
    text = " ".join(prose(rng, 300))
    verdicts = run(RepeatedSpans(), [text, "short", "short", text, "new\n" + text, ""], tmp_path / "a", [1])
    left = texts_of(verdicts)
    assert left[:4] == [text, "short", "short", None]
    assert left[4].startswith("new\n")
    assert len(left[4]) < 4 + 100  # it begins one copy only, so its first window may stay
    assert left[5] == ""
    assert isinstance(verdicts[3], Dropped)
    assert verdicts[3].reason == "nothing but repeated spans"


def test_a_text_that_repeats_itself_keeps_its_first_stretch(tmp_path):
    (left,) = texts_of(run(RepeatedSpans(), ["=" * 1000], tmp_path / "a"))
    assert left == "=" * 200


def test_cutting_leaves_no_half_words():
    assert cut_out("the quick brown fox", [(6, 17)]) == "the quick fox"
    assert cut_out("ab cd ef", [(0, 4)]) == "cd ef"
    assert united([(5, 9), (1, 3), (3, 4), (8, 12)]) == [(1, 4), (5, 12)]


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="window"):
        RepeatedSpans(window=0)
