"""Exact duplicates, lines and paragraphs."""

import numpy as np
import pytest
from dedup import kept, prose, run, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus.dedup import runs
from isoflop.corpus.dedup.exact import ExactDuplicates
from isoflop.corpus.dedup.lines import DuplicateLines, DuplicateParagraphs
from isoflop.corpus.dedup.normalise import normalise
from isoflop.corpus.stage import Dropped


def test_the_first_of_equal_documents_stays_and_blank_ones_are_let_be(tmp_path):
    texts = ["", "a b", "c", " a  b\n", "", "  ", "A b", "a b", "a\ud800"]
    assert kept(run(ExactDuplicates(), texts, tmp_path / "s", [2, 5])) == [0, 1, 2, 4, 5, 6, 8]
    assert kept(run(ExactDuplicates("none"), texts, tmp_path / "n", [2])) == [0, 1, 2, 3, 4, 5, 6, 8]
    assert kept(run(ExactDuplicates("case"), texts, tmp_path / "c", [2])) == [0, 1, 2, 4, 5, 8]
    assert kept(run(ExactDuplicates("space", "longest"), texts, tmp_path / "l", [2])) == [0, 2, 3, 4, 5, 6, 8]


def test_a_dropped_duplicate_says_which_document_stays(tmp_path):
    verdict = run(ExactDuplicates(), ["x", "y", "y"], tmp_path / "a", [1])[2]
    assert isinstance(verdict, Dropped)
    assert (verdict.reason, verdict.detail) == ("exact duplicate", "document 0 of shard 1 stays")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", " "]), max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_exact_duplicates_are_those_of_a_dictionary_for_any_cut(tmp_path_factory, texts, cuts):
    cuts = sorted(min(cut, len(texts)) for cut in cuts)
    seen: set[str] = set()
    expected = [i for i, t in enumerate(texts) if t == " " or not (t in seen or seen.add(t))]
    assert kept(run(ExactDuplicates(), texts, tmp_path_factory.mktemp("e") / "s", cuts)) == expected


@pytest.mark.parametrize(
    ("how", "text", "expected"),
    [
        ("none", " A\n", " A\n"),
        ("space", " A\n\tb ", "A b"),
        ("case", " É B", "é b"),
        ("ccnet", "Él, 12 “Bäume” — 3.5", "el 00 baume 00"),
        ("ccnet", "你好，世界。", "你好世界"),
    ],
)
def test_normalisation(how, text, expected):
    assert normalise(text, how) == expected


BOILERPLATE = "Subscribe to our newsletter for more of this"
CODE = "def f(x):\n    return x\n}\n\nimport os\nx = 1\n"


def test_a_line_of_many_documents_goes_everywhere_and_structure_survives(tmp_path):
    texts = [f"{CODE}text number {i}\n{BOILERPLATE}\n" for i in range(8)]
    left = texts_of(run(DuplicateLines(), texts, tmp_path / "a", [3]))
    assert left == [f"{CODE}text number {i}\n" for i in range(8)]
    assert texts_of(run(DuplicateLines(), texts[:6], tmp_path / "b", [3])) == texts[:6]


def test_the_limit_of_a_line_grows_with_the_corpus(tmp_path):
    texts = [BOILERPLATE] * 8 + [f"another text, the one with number {i}" for i in range(8)]
    assert len(kept(run(DuplicateLines(per_documents=16), texts, tmp_path / "a"))) == 8
    assert len(kept(run(DuplicateLines(per_documents=8), texts, tmp_path / "b"))) == 16


def test_a_refrain_within_one_document_is_not_a_line_of_many(tmp_path):
    texts = ["\n".join([BOILERPLATE] * 20), "something else"]
    assert texts_of(run(DuplicateLines(), texts, tmp_path / "a")) == texts


def test_sources_that_are_spared_are_neither_counted_nor_cut(tmp_path):
    texts = [f"{BOILERPLATE}\n{i}" for i in range(8)]
    assert texts_of(run(DuplicateLines(spare=("code",)), texts, tmp_path / "a", source="code")) == texts


def test_only_the_first_occurrence_of_a_paragraph_stays(tmp_path):
    one, two = "The first paragraph of them all,\nin two lines.", "The second paragraph of all of them."
    texts = [f"{one}\n\n{two}", f"{two}\n \n\nnew\n\n{two}", f"{one.upper()}\n\n{two}", "}\n\n}\n\nx = 1"]
    left = texts_of(run(DuplicateParagraphs(), texts, tmp_path / "a", [1, 2]))
    assert left == [texts[0], "new\n\n", None, texts[3]]


def test_sums_with_other_digits_are_other_paragraphs(tmp_path):
    texts = [f"What is the sum of the numbers {i} and {i + 1}?" for i in range(10, 14)]
    assert len(kept(run(DuplicateParagraphs(), texts, tmp_path / "a"))) == 4
    assert len(kept(run(DuplicateParagraphs(normalise="ccnet"), texts, tmp_path / "b"))) == 1


@pytest.mark.parametrize("stage", [ExactDuplicates(), DuplicateLines(times=2), DuplicateParagraphs(unit="line")])
def test_the_cut_into_shards_and_the_memory_change_nothing(tmp_path, monkeypatch, stage):
    rng = np.random.default_rng(0)
    lines = ["of words " + " ".join(prose(rng, 20)) for _ in range(40)]
    texts = ["\n".join(lines[i] for i in rng.integers(0, 40, int(rng.integers(1, 4)))) for _ in range(120)]
    whole = texts_of(run(stage, texts, tmp_path / "a"))
    assert whole != texts
    monkeypatch.setattr(runs, "COPIES", 1 << 20)
    for number, cuts in enumerate([(), (1, 2, 3), (60, 60), range(10, 120, 10)]):
        assert texts_of(run(stage, texts, tmp_path / f"b{number}", list(cuts))) == whole
