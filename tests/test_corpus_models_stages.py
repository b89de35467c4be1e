"""Stages that rest on small models: languages, quality, perplexity, topics; on real text and by their properties."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus import CorpusError, Document, documents
from isoflop.corpus.models import (
    Classifier,
    Features,
    Language,
    NgramConfig,
    Perplexity,
    QualityClassifier,
    TopicSampling,
    Training,
    train_classifier,
)
from isoflop.corpus.models.features import full, rows
from isoflop.corpus.models.language import sample
from isoflop.corpus.models.logistic import area_under_curve, fit_logistic
from isoflop.corpus.models.sampling import merge, sample_of
from isoflop.corpus.models.topics import rates
from isoflop.corpus.stage import Dropped, Stage, Verdict

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
real = pytest.mark.skipif(not CORPUS.exists(), reason="the shared corpus is not here")
LAWS = ["law", "compute", "token", "model", "loss", "budget", "scale", "small", "curve", "predict"]
PLANTS = ["oak", "leaf", "root", "seed", "moss", "fern", "bark", "bloom", "stem", "pollen"]
SMALL = Training(features=Features(bits=12, window=8, windows=3))


def text_of(kind: list[str], words: int, rng: random.Random) -> str:
    return " ".join(rng.choices([*kind, "the", "of", "and", "is"], k=words))


def corpus_of(kind: list[str], count: int, seed: int, words: int = 40) -> list[Document]:
    rng = random.Random(f"{kind[0]} {seed}")
    return [Document(text_of(kind, words, rng), f"{kind[0]}:{seed}:{i}", f"{kind[0]}-{seed}-{i}") for i in range(count)]


def write(folder: Path, name: str, found: list[Document]) -> str:
    path = folder / name / "part.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": d.text, "id": d.id}) + "\n" for d in found))
    return str(path.parent)


def run(stage: Stage, found: list[Document], shards: int, folder: Path) -> list[Verdict]:
    """The whole stage over documents cut into shards, the last shard first."""
    folder.mkdir()
    cuts = np.linspace(0, len(found), shards + 1).astype(int).tolist()
    parts = [found[a:b] for a, b in itertools.pairwise(cuts)]
    stage.prepare(folder)
    for shard in reversed(range(shards)):
        stage.survey(parts[shard], shard, folder)
    stage.combine(shards, folder)
    return [verdict for shard, part in enumerate(parts) for verdict in stage.judge(part, shard, folder)]


# Languages


@real
@pytest.mark.parametrize(
    ("file", "language"),
    [("eltec-cze", "cs"), ("eltec-fra", "fr"), ("aozora", "ja"), ("al-muqtabas-arabic", "ar"), ("python-docs-ko", "ko"),
     ("eltec-ukr", "uk"), ("gesetze", "de"), ("perseus-latin", "la"), ("openstax-es", "es")],
)  # fmt: skip
def test_language_of_real_text_is_found(file: str, language: str) -> None:
    pytest.importorskip("py3langid")
    found = list(itertools.islice(documents(CORPUS / "multilingual" / f"{file}.jsonl.zst"), 12))
    verdicts = Language().judge(found, 0, Path())
    right = sum(isinstance(v, Document) and v.language == language for v in verdicts)
    assert right >= 0.9 * len(found)


def test_language_stage_drops_what_is_unsure_or_not_wanted_and_trusts_if_told() -> None:
    pytest.importorskip("py3langid")
    english = Document("the law of the land is that we should train and then predict what will be", "a")
    empty, stated = Document(" \n", "b"), Document("the law of the land and of the sea", "c", language="xx")
    kept, unsure, asked = Language().judge([english, empty, stated], 0, Path())
    assert isinstance(kept, Document)
    assert isinstance(asked, Document)
    assert (kept.language, asked.language) == ("en", "en")
    assert isinstance(unsure, Dropped)
    assert unsure.reason == "language unsure"
    assert Language(trust=True).judge_one(stated) == stated
    wanted = Language(languages=("de",)).judge_one(english)
    assert isinstance(wanted, Dropped)
    assert wanted.reason == "language not wanted"


@given(st.text(max_size=50), st.integers(2, 20))
@settings(deadline=None)
def test_sample_is_bounded_and_begins_at_the_beginning(text: str, characters: int) -> None:
    found = sample(text, characters)
    assert len(found) <= max(len(text) if len(text) <= characters else 0, characters + 1)
    assert found.startswith(text[: characters // 2])


def test_language_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        Language(engine="fasttext")
    with pytest.raises(ValueError, match="No such file"):
        Language(engine="fasttext", model="/absent/lid.bin").prepare(Path())


# The classifier


def test_rows_are_full_windows_unless_the_text_is_shorter() -> None:
    features = Features(bits=12, window=8, windows=3)
    rng = random.Random(0)
    for words, expected in ((0, 0), (1, 1), (7, 1), (8, 1), (16, 2), (1000, 3)):
        table = rows(text_of(LAWS, words, rng), features)
        assert len(table) == expected
        assert full(table, features).all() == (words == 0 or words >= 8)


def test_fit_is_where_the_slope_vanishes() -> None:
    rng = random.Random(0)
    features = Features(bits=10, window=8, windows=1)
    table = np.concatenate([rows(text_of(kind, 8, rng), features) for kind in (LAWS, PLANTS) for _ in range(60)])
    positive = np.arange(len(table)) < 60
    l2 = 1e-2
    weights, bias = fit_logistic(table, positive, features, l2, 500)

    def loss(w: np.ndarray, b: float) -> float:
        margin = np.where(positive, 1, -1) * (w[table].sum(axis=1) / np.sqrt(features.entries) + b)
        return float(np.logaddexp(0, -margin).mean() + 0.5 * l2 * w @ w)

    best = loss(weights, bias)
    used = np.flatnonzero(np.bincount(table.ravel(), minlength=features.columns) > 1)
    for column in used[:20]:
        for step in (-0.05, 0.05):
            moved = weights.copy()
            moved[column] += step
            assert loss(moved, bias) > best - 1e-6
    assert loss(weights, bias + 0.05) > best - 1e-6


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=20))
@settings(deadline=None)
def test_area_under_curve_counts_pairs(pairs: list[tuple[int, bool]]) -> None:
    high = [s for s, positive in pairs if positive]
    low = [s for s, positive in pairs if not positive]
    if high and low:
        wins = sum((a > b) + 0.5 * (a == b) for a in high for b in low) / (len(high) * len(low))
        scores, positive = np.array([float(s) for s, _ in pairs]), np.array([p for _, p in pairs])
        assert area_under_curve(scores, positive) == pytest.approx(wins)


def test_sample_is_the_same_however_the_corpus_is_cut() -> None:
    found = corpus_of(LAWS, 60, 0)
    features = Features(bits=12, window=8, windows=3)
    whole = sample_of(found, 20, features, 0)
    shuffled = random.Random(1).sample(found, len(found))
    parts = merge([sample_of(shuffled[i : i + 13], 20, features, 0) for i in range(0, 60, 13)], 20)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(whole.keys) == 20


def test_length_alone_does_not_tell_the_sides_apart() -> None:
    rng = random.Random(0)
    long = [text_of(LAWS, 200, rng) for _ in range(400)]
    short = [text_of(LAWS, 10, rng) for _ in range(1200)]
    _, figures = train_classifier(long, short, replace(SMALL, l2=1e-3))
    assert abs(figures["held_out_auc"] - 0.5) < 0.1


def test_classifier_survives_its_file_and_refuses_others(tmp_path: Path) -> None:
    rng = random.Random(0)
    laws, plants = ([text_of(kind, 40, rng) for _ in range(100)] for kind in (LAWS, PLANTS))
    classifier, figures = train_classifier(laws, plants, SMALL)
    assert figures["held_out_auc"] > 0.99
    classifier.save(tmp_path / "c.safetensors")
    again = Classifier.load(tmp_path / "c.safetensors")
    texts = [*laws[:5], *plants[:5], "", "oak"]
    np.testing.assert_array_equal(again.score(texts), classifier.score(texts))
    assert again.score([""])[0] == 0
    (tmp_path / "d.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CorpusError, match="train it again"):
        Classifier.load(tmp_path / "d.safetensors")
    with pytest.raises(CorpusError, match="too few positive"):
        train_classifier(["oak"] * 50, plants, SMALL)


def test_quality_stage_keeps_what_is_like_the_reference_for_any_number_of_shards(tmp_path: Path) -> None:
    reference = write(tmp_path, "good", corpus_of(LAWS, 150, 0))
    found = corpus_of(PLANTS, 200, 1) + corpus_of(LAWS, 30, 2)
    stage = QualityClassifier(reference, training=SMALL)
    one, three = (run(stage, found, shards, tmp_path / f"run{shards}") for shards in (1, 3))
    assert one == three
    kept = [v.id.split("-")[0] for v in one if isinstance(v, Document)]
    assert set(kept) == {"law"}
    assert len(kept) >= 28
    figures = json.loads((tmp_path / "run3" / "classifier.json").read_text())
    assert figures["held_out_auc"] > 0.9
    most = run(replace(stage, keep=0.5), found, 2, tmp_path / "half")
    assert abs(sum(isinstance(v, Document) for v in most) - 115) <= 3


@real
def test_maths_and_general_text_are_told_apart() -> None:
    def texts(names: list[str], count: int) -> Iterator[str]:
        for name in names:
            yield from (d.text for d in itertools.islice(documents(CORPUS / f"{name}.jsonl.zst"), count))

    maths = texts(["math/planetmath", "math/open-textbooks-gfdl"], 200)
    general = texts(["general/encyclopaedia-britannica-11", "general/openstax-biology"], 200)
    classifier, figures = train_classifier(maths, general, Training(features=Features(bits=16), iterations=40))
    assert figures["held_out_auc"] > 0.97
    near = classifier.score(texts(["heldout/whole-math-planetmath-general-topology"], 60))
    far = classifier.score(texts(["heldout/whole-general-squad-dev-wikipedia"], 35))
    scores, positive = np.append(near, far), np.arange(len(near) + len(far)) < len(near)
    assert area_under_curve(scores, positive) > 0.95


# Perplexity


def test_perplexity_buckets_hold_their_shares_for_any_number_of_shards(tmp_path: Path) -> None:
    reference = write(tmp_path, "good", corpus_of(LAWS, 60, 0))
    found = corpus_of(PLANTS, 40, 1) + corpus_of(LAWS, 60, 2)
    stage = Perplexity(reference, keep=("head", "middle", "tail"), model=NgramConfig(order=3, vocabulary=512))
    one, three = (run(stage, found, shards, tmp_path / f"run{shards}") for shards in (1, 3))
    assert one == three
    buckets = [v.extra["bucket"] for v in one if isinstance(v, Document)]
    assert [buckets.count(b) for b in ("head", "middle", "tail")] == [30, 30, 40]
    assert buckets[:40] == ["tail"] * 40
    kept = run(replace(stage, keep=("head",)), found, 2, tmp_path / "head")
    assert [isinstance(v, Document) for v in kept] == [b == "head" for b in buckets]


def test_percentiles_are_those_of_each_language(tmp_path: Path) -> None:
    reference = write(tmp_path, "good", corpus_of(LAWS, 60, 0))
    plants = [d._replace(language="xx") for d in corpus_of(PLANTS, 20, 1)]
    stage = Perplexity(reference, keep=("head", "middle", "tail"))
    found = [v for v in run(stage, plants + corpus_of(LAWS, 20, 2), 2, tmp_path / "run") if isinstance(v, Document)]
    for part in (found[:20], found[20:]):
        assert [[d.extra["bucket"] for d in part].count(b) for b in ("head", "middle", "tail")] == [6, 6, 8]


# Topics


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=8),
    st.integers(0, 3000),
    st.floats(0.05, 1.0),
)
@settings(deadline=None)
def test_rates_hold_every_topic_to_the_cap_and_lose_no_more_than_they_must(
    sizes: list[int], other: int, cap: float
) -> None:
    array = np.array(sizes, np.int64)
    try:
        found = rates(array, other, cap)
    except CorpusError:
        topics = sum(size > 0 for size in sizes)
        assert not other or cap * len(sizes) >= 1
        assert cap * topics <= 1 + 1e-9 or not other
        return
    kept = array * found
    total = kept.sum() + other
    assert (kept <= cap * total * (1 + 1e-9) + 1e-9).all()
    assert ((found == 1) | (kept >= cap * total * (1 - 1e-9))).all()


@pytest.mark.parametrize("clustered", [False, True])
def test_topic_over_its_share_is_thinned_by_draws_of_its_own(tmp_path: Path, clustered: bool) -> None:
    examples = [write(tmp_path, kind[0], corpus_of(kind, 80, 0)) for kind in (LAWS, PLANTS)]
    found = corpus_of(LAWS, 300, 1) + corpus_of(PLANTS, 100, 2)
    stage = TopicSampling(examples=tuple(examples), cap=0.6, training=SMALL)
    if clustered:
        stage = TopicSampling(corpus=write(tmp_path, "all", found), clusters=2, cap=0.6)
    one, three = (run(stage, found, shards, tmp_path / f"run{shards}") for shards in (1, 3))
    assert one == three
    kept = [v.id.split("-")[0] for v in one if isinstance(v, Document)]
    assert kept.count("oak") == 100
    assert kept.count("law") == pytest.approx(150, abs=25)
    lower = run(replace(stage, cap=0.55), found, 2, tmp_path / "lower")
    assert {v.id for v in lower if isinstance(v, Document)} < {v.id for v in one if isinstance(v, Document)}


def test_clusters_are_named_by_words_in_them(tmp_path: Path) -> None:
    found = corpus_of(LAWS, 50, 1) + corpus_of(PLANTS, 50, 2)
    run(TopicSampling(corpus=write(tmp_path, "all", found), clusters=2, cap=1.0), found, 1, tmp_path / "run")
    names = [set(name.split()) for name in json.loads((tmp_path / "run" / "names.json").read_text())]
    assert {name <= set(LAWS) for name in names} == {True, False}
    assert {name <= set(PLANTS) for name in names} == {True, False}


def test_topics_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="two or more examples"):
        TopicSampling()
    with pytest.raises(ValueError, match="two or more examples"):
        TopicSampling(examples=("a/x", "b/x"))
