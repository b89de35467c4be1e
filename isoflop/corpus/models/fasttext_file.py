"""Reads supervised fastText models, ``.bin`` and quantized ``.ftz``, without the fastText library.

The format has no specification but the library's ``FastText::saveModel`` (version 12, magic 793712314): arguments,
dictionary, a flag and the input matrix, a flag and the output matrix, all little-endian; a quantized matrix is codes
of a product quantizer (arXiv 1612.03651). A file may come from anywhere, so nothing in it is believed: every size is
checked against the bytes that are left before anything is allocated. Matrices are views of the mapped file, so that a
model of gigabytes costs the memory of the rows that are used; the dictionary is read into a Python dict.

Left out: unsupervised models (they have no labels), and versions before 11.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAGIC = 793712314
VERSIONS = (11, 12)
HIERARCHICAL, NEGATIVE_SAMPLING, SOFTMAX, ONE_VERSUS_ALL = 1, 2, 3, 4
SUPERVISED = 3
CENTROIDS = 256
LONGEST_WORD = 1 << 16
ARGUMENTS = struct.Struct("<12id")
SIZES = struct.Struct("<iiiqq")
WORD = struct.Struct("<qb")


class FastTextError(ValueError):
    """The file is not a fastText model that can be used here; the message says why."""


@dataclass(frozen=True)
class Dense:
    """A matrix of floats, shape (rows, columns)."""

    values: NDArray[np.float32]

    def rows(self, numbers: Array) -> NDArray[np.float32]:
        """The rows of these numbers, shape (numbers, columns)."""
        return self.values[numbers]


@dataclass(frozen=True)
class Quantizer:
    """A product quantizer: a vector is cut into parts, and each part is one of 256 centroids."""

    columns: int
    part: int
    centroids: NDArray[np.float32]

    @property
    def parts(self) -> int:
        """Into how many parts a vector is cut; the last may be shorter."""
        return -(-self.columns // self.part)

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors of shape (n, columns) from codes of shape (n, parts)."""
        out = np.empty((len(codes), self.columns), np.float32)
        for number in range(self.parts):
            width = min(self.part, self.columns - number * self.part)
            first = number * CENTROIDS * self.part
            table = self.centroids[first : first + CENTROIDS * width].reshape(CENTROIDS, width)
            out[:, number * self.part : number * self.part + width] = table[codes[:, number]]
        return out


@dataclass(frozen=True)
class Quantized:
    """A matrix whose rows are codes, and whose norms may be codes too."""

    codes: NDArray[np.uint8]
    quantizer: Quantizer
    norm_codes: NDArray[np.uint8] | None
    norms: NDArray[np.float32] | None

    def rows(self, numbers: Array) -> NDArray[np.float32]:
        """The rows of these numbers, shape (numbers, columns)."""
        vectors = self.quantizer.decode(self.codes[numbers])
        if self.norm_codes is not None and self.norms is not None:
            vectors *= self.norms[self.norm_codes[numbers]][:, None]
        return vectors


Matrix = Dense | Quantized


@dataclass(frozen=True)
class FastTextFile:
    """What a file holds: words and labels in the order of their rows; pairs of kept buckets and rows in ``pruned``."""

    columns: int
    word_ngrams: int
    loss: int
    buckets: int
    shortest: int
    longest: int
    words: dict[bytes, int]
    labels: list[str]
    label_counts: NDArray[np.int64]
    pruned: NDArray[np.int64] | None
    inputs: Matrix
    outputs: Matrix


class _Bytes:
    """A position in a mapped file; nothing is read beyond its end."""

    def __init__(self, data: mmap.mmap | bytes, name: str) -> None:
        self.data, self.name, self.at = data, name, 0

    def fail(self, why: str) -> FastTextError:
        return FastTextError(f"{self.name} cannot be read as a fastText model: {why} (at byte {self.at})")

    def need(self, size: int) -> None:
        if size < 0 or size > len(self.data) - self.at:
            raise self.fail(f"it says that {size:,} bytes follow, and {len(self.data) - self.at:,} do; is it complete?")

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        self.need(form.size)
        values = form.unpack_from(self.data, self.at)
        self.at += form.size
        return values

    def number(self, kind: str) -> int:
        return int(self.unpack(struct.Struct("<" + kind))[0])

    def array(self, kind: str, count: int) -> Array:
        """``count`` numbers as a view of the file."""
        size = np.dtype(kind).itemsize * count
        self.need(size)
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += size
        return found

    def word(self) -> bytes:
        end = self.data.find(b"\0", self.at, self.at + LONGEST_WORD)
        if end < 0:
            raise self.fail(f"a word has no end within {LONGEST_WORD:,} bytes")
        found = bytes(self.data[self.at : end])
        self.at = end + 1
        return found


def read_file(path: str | Path) -> FastTextFile:
    """Read a model. Raises FastTextError if it is none, is damaged, or is not supervised."""
    try:
        with Path(path).expanduser().open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise FastTextError(f"cannot read the fastText model {path}: {error.strerror}") from None
    except ValueError:
        raise FastTextError(f"{path} is empty, not a fastText model") from None
    return parse(data, str(path))


def parse(data: mmap.mmap | bytes, name: str) -> FastTextFile:
    """The model in ``data``; ``name`` is for errors."""
    stream = _Bytes(data, name)
    magic, version = stream.number("i"), stream.number("i")
    if magic != MAGIC:
        raise stream.fail("it does not begin as one; a .vec file or another library's model is something else")
    if version not in VERSIONS:
        raise stream.fail(f"its format has version {version}, and {VERSIONS} are known")
    columns, _, _, _, _, word_ngrams, loss, kind, buckets, shortest, longest, _, _ = stream.unpack(ARGUMENTS)
    if kind != SUPERVISED:
        raise stream.fail("it is an unsupervised model, which has no labels")
    if loss not in (HIERARCHICAL, NEGATIVE_SAMPLING, SOFTMAX, ONE_VERSUS_ALL) or columns < 1 or buckets < 0:
        raise stream.fail("its arguments make no sense")
    if not (1 <= word_ngrams <= 64 and shortest <= 64 and longest <= 64):
        raise stream.fail("its n-grams are longer than anyone's")
    longest = 0 if version == 11 else longest  # what the library does: those models had none of characters
    words, labels, counts, pruned = _dictionary(stream)
    quantized = bool(stream.number("b"))
    if pruned is not None and not quantized:
        raise stream.fail("its dictionary is pruned and its matrix is not")
    inputs, rows = _matrix(stream, quantized, columns)
    outputs, output_rows = _matrix(stream, bool(stream.number("b")) and quantized, columns)
    kept = buckets if pruned is None else int(pruned[:, 1].max(initial=-1)) + 1
    if rows < len(words) + (kept if word_ngrams > 1 or longest > 0 else 0) or output_rows < len(labels):
        raise stream.fail("its matrices have fewer rows than its dictionary needs")
    return FastTextFile(
        columns, word_ngrams, loss, buckets, shortest, longest, words, labels, counts, pruned, inputs, outputs
    )


def _dictionary(stream: _Bytes) -> tuple[dict[bytes, int], list[str], NDArray[np.int64], NDArray[np.int64] | None]:
    """Words and labels with their numbers, the labels' counts, and where each bucket's row went if some were pruned."""
    size, words_said, labels_said, _, pruned_size = stream.unpack(SIZES)
    if min(size, words_said, labels_said) < 0 or size != words_said + labels_said or not labels_said:
        raise stream.fail(f"{size} entries of {words_said} words and {labels_said} labels")
    stream.need(size * (WORD.size + 1))
    words: dict[bytes, int] = {}
    labels, counts = [], []
    for number in range(size):
        word = stream.word()
        count, kind = stream.unpack(WORD)
        if kind != (number >= words_said):
            raise stream.fail("words and labels do not stand in their places")
        if kind:
            labels.append(word.decode("utf-8", "replace"))
            counts.append(count)
        else:
            words[word] = number
    if len(words) != words_said:
        raise stream.fail("a word stands twice in its dictionary")
    pruned = None
    if pruned_size >= 0:
        pruned = stream.array("<i4", 2 * pruned_size).reshape(-1, 2).astype(np.int64)
        if (pruned < 0).any():
            raise stream.fail("negative buckets")
        pruned = pruned[np.argsort(pruned[:, 0], kind="stable")]
    return words, labels, np.array(counts, np.int64), pruned


def _matrix(stream: _Bytes, quantized: bool, columns: int) -> tuple[Matrix, int]:
    """A matrix and its number of rows."""
    norms = bool(stream.number("b")) if quantized else False
    rows, width = stream.number("q"), stream.number("q")
    if rows < 0 or width != columns:
        raise stream.fail(f"a matrix of {rows} × {width} for vectors of {columns}")
    if not quantized:
        return Dense(stream.array("<f4", rows * width).reshape(rows, width)), rows
    size = stream.number("i")
    codes = stream.array("u1", size)
    quantizer = _quantizer(stream, columns)
    if size != rows * quantizer.parts:
        raise stream.fail("the codes of a matrix are not as many as its parts")
    norm_codes = stream.array("u1", rows) if norms else None
    table = _quantizer(stream, 1).centroids if norms else None
    return Quantized(codes.reshape(rows, quantizer.parts), quantizer, norm_codes, table), rows


def _quantizer(stream: _Bytes, columns: int) -> Quantizer:
    said, parts, part, last = (stream.number("i") for _ in range(4))
    if said != columns or part < 1 or parts != -(-columns // part) or last != columns - (parts - 1) * part:
        raise stream.fail(f"a quantizer of {parts} parts of {part} for vectors of {columns}")
    return Quantizer(columns, part, stream.array("<f4", columns * CENTROIDS))
