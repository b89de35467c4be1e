"""Outliers among a corpus's distributions of words."""

import json
import random
from collections import Counter
from math import log

import pytest

from isoflop.corpus.document import Document
from isoflop.corpus.rules import TokenOutliers
from isoflop.corpus.stage import Dropped

WORDS = [f"w{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(300)]


def prose(seed, count=300):
    return " ".join(random.Random(seed).choices(WORDS, [1 / (rank + 1) for rank in range(len(WORDS))], k=count))


def run(stage, shards, folder):
    """The verdicts of all shards, surveyed in the reverse order."""
    folder.mkdir(exist_ok=True)
    for shard in reversed(range(len(shards))):
        stage.survey(shards[shard], shard, folder)
    stage.combine(len(shards), folder)
    return [stage.judge(documents, shard, folder) for shard, documents in enumerate(shards)]


def corpus(language="en"):
    shards = [
        [Document(prose(100 * shard + k), f"{shard}:{k}", language=language) for k in range(60)] for shard in range(3)
    ]
    odd = " ".join(f"{left}{right}" for left in "qxz" for right in map(str, range(100)))
    shards[1][7] = Document(odd, "odd", language=language)
    return shards


def test_the_document_of_other_words_goes_and_no_other(tmp_path):
    verdicts = [verdict for shard in run(TokenOutliers(), corpus(), tmp_path) for verdict in shard]
    gone = [verdict for verdict in verdicts if isinstance(verdict, Dropped)]
    assert [verdict.document.place for verdict in gone] == ["odd"]
    assert gone[0].reason == "outlying words"


def test_verdicts_stand_in_the_order_of_documents_and_keep_them(tmp_path):
    shards = corpus()
    for documents, verdicts in zip(shards, run(TokenOutliers(), shards, tmp_path), strict=True):
        assert [getattr(verdict, "document", verdict) for verdict in verdicts] == documents


def test_divergences_are_those_of_the_definition(tmp_path):
    shards = [[Document(prose(k, 50), "") for k in range(5)]]
    run(TokenOutliers(bits=20), shards, tmp_path)
    counts = [Counter(document.text.split()) for document in shards[0]]
    total = sum(counts, Counter())
    everything = total.total()
    expected = [
        sum(many / c.total() * log(many / c.total() * everything / total[word]) for word, many in c.items())
        for c in counts
    ]
    measured = json.loads((tmp_path / "divergences-000000.json").read_text())
    assert [divergence for _, divergence in measured] == pytest.approx(expected)


def test_a_language_is_compared_with_itself(tmp_path):
    """Ten documents of other words are outliers of the corpus, and ordinary in their own language."""
    shards = corpus()[:1] * 4
    minority = [Document(" ".join(f"{word}ü" for word in prose(k).split()), f"m{k}", language="de") for k in range(10)]
    shards = [*shards, minority]
    assert not any(isinstance(verdict, Dropped) for verdict in run(TokenOutliers(), shards, tmp_path / "a")[-1])
    together = run(TokenOutliers(by="corpus"), shards, tmp_path / "b")
    assert all(isinstance(verdict, Dropped) for verdict in together[-1])


def test_small_classes_are_left_alone(tmp_path):
    shards = corpus()
    assert not any(
        isinstance(verdict, Dropped)
        for shard in run(TokenOutliers(min_class=200), shards, tmp_path)
        for verdict in shard
    )


def test_texts_without_words_and_empty_shards(tmp_path):
    shards = [[Document("", "a"), Document(" \n", "b")], [], [Document("one", "c")]]
    verdicts = run(TokenOutliers(min_class=1), shards, tmp_path)
    assert verdicts == shards


def test_the_same_corpus_leaves_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        run(TokenOutliers(), corpus(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 7
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
