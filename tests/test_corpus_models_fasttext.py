"""fastText files: predictions as the library makes them, and nothing in a file believed."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus import Document
from isoflop.corpus.models import Language
from isoflop.corpus.models.fasttext import FastText, character_ngrams, token_hashes
from isoflop.corpus.models.fasttext_file import FastTextError, parse, read_file
from isoflop.corpus.stage import Dropped

SENTENCES = {
    "en": ["the law of the land is the law", "a budget of compute and a small model", "we train and then we predict"],
    "de": [
        "das Gesetz des Landes ist über allem",
        "ein kleines Modell für größere Budgets",
        "wir üben und sagen vorher",
    ],
    "fr": ["la loi du pays est la loi", "un modèle été à l'école", "nous prédisons après l'entraînement"],
    "el": ["ο νόμος της χώρας", "ένα μικρό μοντέλο", "προβλέπουμε την απώλεια"],
}
PROBES = [
    "the small law",
    "größere Länder über",
    "été après l'hiver",
    "νόμος",
    "zzz qqq",
    "",
    "a\nb",
    "漢字 the 漢字",
    "x" * 300,
]


def fnv(data: bytes) -> int:
    """The hash as the paper's library defines it, a byte at a time."""
    value = 2166136261
    for byte in data:
        value = ((value ^ ((byte - 256 if byte > 127 else byte) & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value


def model_bytes(loss: int = 3, word_ngrams: int = 2, longest: int = 3, dim: int = 4, seed: int = 0) -> bytes:
    """A model with random matrices, written from the library's own order of fields."""
    rng = np.random.default_rng(seed)
    words, labels, buckets = [b"</s>", b"the", "größere".encode()], [b"__label__en", b"__label__de", b"__label__fr"], 50
    out = struct.pack("<ii", 793712314, 12)
    out += struct.pack("<12id", dim, 5, 5, 1, 5, word_ngrams, loss, 3, buckets, 2, longest, 100, 1e-4)
    out += struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), 100, -1)
    for number, word in enumerate(words + labels):
        out += word + b"\0" + struct.pack("<qb", 30 - number, number >= len(words))
    for rows in (len(words) + buckets, len(labels)):
        values = rng.normal(size=(rows, dim)).astype("<f4")
        out += b"\0" + struct.pack("<qq", rows, dim) + values.tobytes()
    return out


def naive_rows(data: bytes, text: str) -> list[int]:
    """The rows of a text, one n-gram at a time, for the models of model_bytes."""
    file = parse(data, "model")
    tokens = [t for t in text.encode().split() if t] + [b"</s>"]
    rows = [file.words[t] for t in tokens if t in file.words]
    for token in tokens[:-1]:
        characters = list("<" + token.decode() + ">")
        for n in range(file.shortest, file.longest + 1):
            grams = ("".join(characters[i : i + n]).encode() for i in range(len(characters) - n + 1))
            rows += [len(file.words) + fnv(gram) % file.buckets for gram in grams]
    hashes = [(h - 2**32 if h >= 2**31 else h) for h in map(fnv, tokens)]
    for i in range(len(hashes)):
        running = hashes[i] % 2**64
        for j in range(i + 1, min(len(hashes), i + file.word_ngrams)):
            running = (running * 116049371 + hashes[j]) % 2**64
            rows.append(len(file.words) + running % file.buckets)
    return sorted(rows)


@given(st.text(st.sampled_from("abß漢é <>\t"), max_size=30), st.integers(1, 4), st.sampled_from([0, 2, 3, 5]))
@settings(deadline=None)
def test_rows_are_those_of_one_ngram_at_a_time(text: str, word_ngrams: int, longest: int) -> None:
    data = model_bytes(word_ngrams=word_ngrams, longest=longest)
    assert sorted(FastText(parse(data, "model")).rows(text)) == naive_rows(data, text)


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=5))
@settings(deadline=None)
def test_hashes_of_tokens_are_fnv_with_signed_bytes(tokens: list[bytes]) -> None:
    assert token_hashes(tokens).tolist() == [fnv(token) for token in tokens]


def test_lone_brackets_are_no_ngrams() -> None:
    assert sorted(character_ngrams([b"ab"], 1, 1)) == sorted([fnv(b"a"), fnv(b"b")])


@pytest.mark.parametrize("loss", [1, 2, 3, 4])
def test_probabilities_follow_from_the_matrices(loss: int) -> None:
    data = model_bytes(loss)
    file = parse(data, "model")
    model = FastText(file)
    chances = model.probabilities(["the größere cat"])[0]
    hidden = file.inputs.rows(np.array(naive_rows(data, "the größere cat"))).mean(axis=0)
    scores = file.outputs.rows(np.arange(3)) @ hidden
    sigmoid = 1 / (1 + np.exp(-scores))
    expected = {
        # counts 27, 26, 25: the rarer two are merged first, and that node is the right child of the root
        1: [1 - sigmoid[1], sigmoid[1] * sigmoid[0], sigmoid[1] * (1 - sigmoid[0])],
        2: sigmoid,
        3: np.exp(scores) / np.exp(scores).sum(),
        4: sigmoid,
    }[loss]
    np.testing.assert_allclose(chances, expected, rtol=1e-5)
    assert model.predict("the größere cat")[0] == model.labels[int(np.argmax(expected))]


@pytest.mark.parametrize("loss", [1, 3])
@given(text=st.text(max_size=50))
@settings(deadline=None, max_examples=20)
def test_probabilities_of_a_text_sum_to_one(loss: int, text: str) -> None:
    total = FastText(parse(model_bytes(loss), "model")).probabilities([text, "the"]).sum(axis=1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def test_no_texts_have_no_probabilities() -> None:
    assert FastText(parse(model_bytes(), "model")).probabilities([]).shape == (0, 3)


@given(st.data())
@settings(deadline=None, max_examples=400)
def test_broken_file_is_an_error_and_nothing_else(data: Any) -> None:
    whole = bytearray(model_bytes(loss=data.draw(st.sampled_from([1, 3]))))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, min(len(whole) - 1, 260)))
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        model = FastText(parse(cut, "model"))
    except FastTextError:
        return
    with np.errstate(all="ignore"):
        assert model.probabilities(["the law"]).shape == (1, len(model.labels))


def test_sizes_that_lie_allocate_nothing() -> None:
    data = bytearray(model_bytes())
    at = len(data) - 3 * 4 * 4 - 16
    struct.pack_into("<q", data, at, 2**60)
    with pytest.raises(FastTextError, match="complete"):
        parse(bytes(data), "model")


def test_errors_say_what_the_file_is_instead(tmp_path: Path) -> None:
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "vectors.vec").write_bytes(b"3 4\nthe 1 2 3 4\n")
    with pytest.raises(FastTextError, match="is empty"):
        read_file(tmp_path / "empty.bin")
    with pytest.raises(FastTextError, match="something else"):
        read_file(tmp_path / "vectors.vec")
    with pytest.raises(FastTextError, match="No such file"):
        read_file(tmp_path / "absent.bin")


@pytest.fixture(scope="module")
def training_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fasttext") / "train.txt"
    lines = [f"__label__{name} {sentence}" for name, group in SENTENCES.items() for sentence in group]
    path.write_text("\n".join(lines * 20) + "\n", encoding="utf-8")
    return path


SETTINGS: list[dict[str, Any]] = [
    {"loss": "softmax", "wordNgrams": 2, "minn": 0, "maxn": 0},
    {"loss": "softmax", "wordNgrams": 3, "minn": 2, "maxn": 4},
    {"loss": "hs", "wordNgrams": 1, "minn": 1, "maxn": 3},
    {"loss": "ova", "wordNgrams": 2, "minn": 0, "maxn": 0},
    {"loss": "ns", "wordNgrams": 2, "minn": 2, "maxn": 2},
]


@pytest.mark.parametrize("quantize", [None, {}, {"qnorm": True, "dsub": 3}, {"cutoff": 300}])
@pytest.mark.parametrize("setting", SETTINGS)
def test_agrees_with_the_library(
    tmp_path: Path, training_file: Path, setting: dict[str, Any], quantize: dict[str, Any] | None
) -> None:
    library = pytest.importorskip("fasttext")
    trained = library.train_supervised(
        str(training_file), dim=10, bucket=2000, epoch=20, thread=1, minCount=1, verbose=0, **setting
    )
    if quantize is not None:
        trained.quantize(**quantize)
    path = tmp_path / "model.bin"
    trained.save_model(str(path))
    model = FastText.load(path)
    rounding = 5e-5 if setting["loss"] in ("softmax", "hs") else 0.01  # a table of sigmoids with a step of 1/32
    for probe in PROBES:
        text = probe.replace("\n", " ")
        theirs = {label: chance for chance, label in trained.f.predict(text + "\n", -1, 0.0, "strict")}
        ours = model.probabilities([probe])[0]
        assert len(theirs) in (0, len(model.labels))
        for label, chance in zip(model.labels, ours, strict=True):
            assert math.isclose(theirs.get("__label__" + label, 0.0), chance, abs_tol=rounding), (probe, label)


def test_language_stage_asks_a_fasttext_model(tmp_path: Path) -> None:
    path = tmp_path / "lid.bin"
    path.write_bytes(model_bytes())
    label, chance = FastText.load(path).predict("the größere cat")
    stage = Language(engine="fasttext", model=str(path), confidence=0.0)
    kept = stage.judge_one(Document("the größere cat", "a"))
    assert isinstance(kept, Document)
    assert kept.language == label
    unsure = Language(engine="fasttext", model=str(path), confidence=min(1.0, chance + 0.01))
    assert isinstance(unsure.judge_one(Document("the größere cat", "a")), Dropped)
