"""An n-gram language model: trained on a text of any length, kept as arrays on disk, asked for the surprise of texts.

The model's folder holds ``model.json`` and numpy arrays that are mapped and not read, so that many processes share
one copy. Each text is one sequence from a beginning to an end, words and symbols in order, unknown words spelled
(``vocabulary.py``). Smoothing is interpolated Kneser–Ney or stupid backoff (``ngram_smoothing.py``).

Training reads the text twice: for the vocabulary, and for the counts, which are sorted on disk (``ngram_counts.py``).
The distinct n-grams must fit in memory, about 60 bytes each while smoothing. A question costs two binary searches per
word and order. Left out: pruning, and orders whose keys are longer than 64 bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.config import from_dict
from isoflop.corpus.document import CorpusError
from isoflop.corpus.models.ngram_counts import count, keys_of
from isoflop.corpus.models.ngram_smoothing import BACKOFF, Level, Smoothing, levels
from isoflop.corpus.models.vocabulary import BEGIN, Vocabulary, build
from isoflop.keys import UInt64s

Floats = NDArray[np.float64]

BATCH = 1 << 20


@dataclass(frozen=True)
class NgramConfig:
    """Order, numbers in the vocabulary at most, and smoothing. ``order`` × bits of the vocabulary must fit in 64."""

    order: int = 4
    vocabulary: int = 1 << 16
    smoothing: Smoothing = "modified_kneser_ney"

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 16 or not 256 <= self.vocabulary <= 1 << min(32, 64 // self.order):
            raise ValueError(
                f"an n-gram of {self.order} words out of {self.vocabulary:,} has no room in 64 bits: order 3 allows "
                "2,097,152 words, order 4 65,536, order 5 4,096 (and 256 is the least)"
            )

    @property
    def bits(self) -> int:
        """Bits of a word's number."""
        return (self.vocabulary - 1).bit_length()


class Surprise(NamedTuple):
    """How a text surprised a model: nats in all, words (the end counts as one), and characters."""

    nats: float
    words: int
    characters: int

    @property
    def per_word(self) -> float:
        """Nats per word, whose exponential is the perplexity; a spelled word is one word."""
        return self.nats / self.words


@dataclass(frozen=True)
class LanguageModel:
    """A trained model."""

    config: NgramConfig
    vocabulary: Vocabulary
    levels: list[Level]

    def probabilities(self, numbers: UInt64s) -> Floats:
        """Of each word of one sequence after those before it, shape (words,)."""
        return self._of_keys(keys_of(numbers, self.config.order, self.config.bits, BEGIN))

    def surprise(self, texts: Sequence[str]) -> list[Surprise]:
        """How each text surprises the model."""
        found: list[Surprise] = []
        for batch in _batches(texts, self.vocabulary):
            keys = [keys_of(numbers, self.config.order, self.config.bits, BEGIN) for _, numbers, _ in batch]
            nats = -np.log(self._of_keys(np.concatenate(keys, axis=1)))
            starts = np.cumsum([0] + [len(numbers) for _, numbers, _ in batch[:-1]])
            sums = np.add.reduceat(nats, starts)
            found += [Surprise(float(s), n + 1, len(t)) for s, (t, _, n) in zip(sums, batch, strict=True)]
        return found

    def _of_keys(self, keys: UInt64s) -> Floats:
        found = np.full(keys.shape[1], 1.0 / (self.vocabulary.size - 1))  # the beginning is never predicted
        for level, grams in zip(self.levels, keys, strict=True):
            value, seen = _look_up(level.keys, level.values, grams, 0.0)
            if self.config.smoothing == "stupid_backoff":
                found = np.where(seen, value, BACKOFF * found)
                continue
            weight, _ = _look_up(level.contexts, level.weights, grams >> np.uint64(self.config.bits), 1.0)
            found = value + weight * found
        return found

    @classmethod
    def load(cls, folder: Path) -> LanguageModel:
        """Map the model that ``train_language_model`` wrote. Raises CorpusError if it is not there or not whole."""

        def array(name: str, kind: Any) -> Any:
            values = np.load(folder / f"{name}.npy", mmap_mode="r")
            if values.dtype != kind or values.ndim != 1:
                raise ValueError(f"{name}.npy is not a list of {np.dtype(kind)}")
            return values

        try:
            config = from_dict(NgramConfig, json.loads((folder / "model.json").read_text()), "model.json")
            vocabulary = Vocabulary(np.array(array("vocabulary", np.uint64)), np.array(array("numbers", np.uint32)))
            fields = {"keys": np.uint64, "values": np.float32, "contexts": np.uint64, "weights": np.float32}
            found = [
                Level(**{name: array(f"{name}-{length}", kind) for name, kind in fields.items()})
                for length in range(1, config.order + 1)
            ]
        except (OSError, ValueError, EOFError) as error:
            raise CorpusError(f"{folder} is not an n-gram model ({error}): train it again.") from None
        return cls(config, vocabulary, found)


def train_language_model(
    texts: Callable[[], Iterable[str]], folder: Path, config: NgramConfig | None = None
) -> LanguageModel:
    """Train on the texts that every call of ``texts`` gives anew, and write the model to ``folder``.

    Raises CorpusError if there is no word in them.
    """
    config = config or NgramConfig()
    vocabulary = build(texts(), config.vocabulary)
    if not len(vocabulary.hashes):
        raise CorpusError(
            "no word occurs twice in the text to train a language model on: give a larger reference corpus"
        )
    scratch = folder.with_name(f".{folder.name}.counts")
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed training left
    scratch.mkdir(parents=True)
    try:
        count((_grams(text, vocabulary, config) for text in texts()), scratch)
        keys, counts = np.load(scratch / "keys.npy"), np.load(scratch / "counts.npy")
        found = levels(keys, counts, config.order, config.bits, config.smoothing)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model = LanguageModel(config, vocabulary, found)
    files.write_folder(folder, lambda path: _write(model, path))
    return LanguageModel.load(folder)


def _write(model: LanguageModel, folder: Path) -> None:
    np.save(folder / "vocabulary.npy", model.vocabulary.hashes)
    np.save(folder / "numbers.npy", model.vocabulary.numbers)
    for length, level in enumerate(model.levels, 1):
        for name, values in vars(level).items():
            np.save(folder / f"{name}-{length}.npy", values)
    (folder / "model.json").write_text(json.dumps(asdict(model.config), indent=1) + "\n")


def _grams(text: str, vocabulary: Vocabulary, config: NgramConfig) -> UInt64s:
    numbers, _ = vocabulary.encode(text)
    grams: UInt64s = keys_of(numbers, config.order, config.bits, BEGIN)[-1]
    return grams


def _batches(texts: Sequence[str], vocabulary: Vocabulary) -> Iterator[list[tuple[str, UInt64s, int]]]:
    """Texts with their numbers and words, about a million numbers at a time."""
    held: list[tuple[str, UInt64s, int]] = []
    length = 0
    for text in texts:
        numbers, words = vocabulary.encode(text)
        held.append((text, numbers, words))
        length += len(numbers)
        if length >= BATCH:
            yield held
            held, length = [], 0
    if held:
        yield held


def _look_up(
    table: UInt64s, values: NDArray[np.float32], keys: UInt64s, absent: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """The value of every key and whether it is there. Sorted questions walk through the table in step with memory."""
    if not len(table):
        return np.full(len(keys), absent), np.zeros(len(keys), np.bool_)
    order = np.argsort(keys)
    asked = keys[order]
    at = np.minimum(np.searchsorted(table, asked), len(table) - 1)
    seen = np.empty(len(keys), np.bool_)
    found = np.empty(len(keys))
    seen[order] = table[at] == asked
    found[order] = values[at]
    return np.where(seen, found, absent), seen
