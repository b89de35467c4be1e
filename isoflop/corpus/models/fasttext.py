"""What a supervised fastText model says of a text, in numpy (arXiv 1607.01759; 1607.04606 for n-grams of characters).

A text is one line: its tokens, split at white space, and the end-of-line token. A token is a row of the input matrix
if the dictionary has it, plus a row for each of its n-grams of characters, plus a row for each n-gram of tokens;
n-grams are hashed into buckets by 32-bit FNV-1a with the sign bug that the library has kept since. The mean of the
rows is multiplied with the output matrix, which ends in a softmax, a tree of decisions (hierarchical softmax) or one
decision per label.

Probabilities agree with the library's up to its own rounding: it adds 10⁻⁵ before taking logarithms, and looks
sigmoids up in a table with a step of 1/32. Left out: training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.models.fasttext_file import HIERARCHICAL, SOFTMAX, FastTextError, FastTextFile, read_file

Rows = NDArray[np.int64]
Hashes = NDArray[np.uint32]

SEPARATORS = re.compile(rb"[ \n\r\t\v\f\0]+")
END = b"</s>"
LABEL = b"__label__"
OFFSET, PRIME = np.uint32(2166136261), np.uint32(16777619)
NGRAM = np.uint64(116049371)
MOST_LABELS = 4096  # a tree is kept as two square matrices


class FastText:
    """A model that gives every label of a text its probability."""

    def __init__(self, file: FastTextFile) -> None:
        """Prepare what prediction needs of ``file``; costs the output matrix as floats."""
        self.file = file
        self.labels = [label.removeprefix(LABEL.decode()) for label in file.labels]
        self.outputs = file.outputs.rows(np.arange(len(file.labels)))
        if file.loss == HIERARCHICAL and len(file.labels) > MOST_LABELS:
            raise FastTextError(f"a tree over {len(file.labels):,} labels: at most {MOST_LABELS:,} are read")
        self.paths = _paths(file.label_counts) if file.loss == HIERARCHICAL else None

    @classmethod
    def load(cls, path: str | Path) -> FastText:
        """Read a ``.bin`` or ``.ftz`` file. Raises FastTextError, a ValueError."""
        return cls(read_file(path))

    def probabilities(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Shape (texts, labels); the row of a text in which the model knows nothing is zero."""
        rows = [self.rows(text) for text in texts]
        hidden = np.zeros((len(rows), self.file.columns))
        for vector, numbers in zip(hidden, rows, strict=True):
            if len(numbers):
                vector[:] = self.file.inputs.rows(numbers).mean(axis=0)
        scores = hidden @ self.outputs.T.astype(np.float64)
        if self.paths is not None:
            found = np.exp(-np.logaddexp(0, -scores) @ self.paths[0] - np.logaddexp(0, scores) @ self.paths[1])
        elif self.file.loss == SOFTMAX:
            shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
            found = shifted / shifted.sum(axis=1, keepdims=True)
        else:
            found = np.exp(-np.logaddexp(0, -scores))
        found[[not len(numbers) for numbers in rows]] = 0.0
        return found

    def predict(self, text: str) -> tuple[str, float]:
        """The likeliest label, without its ``__label__``, and its probability; ("", 0) if the model knows nothing."""
        chances = self.probabilities([text])[0]
        best = int(chances.argmax())
        return (self.labels[best], float(chances[best])) if chances[best] > 0 else ("", 0.0)

    def rows(self, text: str) -> Rows:
        """The rows of the input matrix that stand for a text, in no particular order, each as often as it counts."""
        tokens = [token for token in SEPARATORS.split(text.encode("utf-8", "replace")) if token] + [END]
        if END in tokens[:-1]:
            tokens = tokens[: tokens.index(END) + 1]  # the library ends a line there
        numbers = np.array([self.file.words.get(token, -1) for token in tokens], np.int64)
        tokens = [t for t, n in zip(tokens, numbers, strict=True) if n >= 0 or not t.startswith(LABEL)]
        numbers = np.array([self.file.words.get(token, -1) for token in tokens], np.int64)
        parts = [numbers[numbers >= 0]]
        spelled = [token for token in tokens if token != END]
        if self.file.longest > 0 and self.file.buckets and spelled:
            hashes = character_ngrams(spelled, max(self.file.shortest, 1), self.file.longest)
            parts.append(self._bucket_rows(hashes.astype(np.int64) % self.file.buckets))
        if self.file.word_ngrams > 1 and self.file.buckets:
            parts.append(self._bucket_rows(token_ngrams(tokens, self.file.word_ngrams, self.file.buckets)))
        return np.concatenate(parts)

    def _bucket_rows(self, buckets: Rows) -> Rows:
        """The rows of buckets; of a pruned model, those that were kept."""
        if self.file.pruned is not None:
            if not len(self.file.pruned):
                return buckets[:0]
            kept, rows = self.file.pruned.T
            at = np.minimum(np.searchsorted(kept, buckets), len(kept) - 1)
            buckets = rows[at[kept[at] == buckets]]
        return buckets + len(self.file.words)


def token_hashes(tokens: list[bytes]) -> Hashes:
    """FNV-1a of each token, shape (tokens,)."""
    lengths = np.array([len(token) for token in tokens])
    starts = np.cumsum(lengths) - lengths
    data = _signed(b"".join(tokens))
    hashes = np.full(len(tokens), OFFSET, np.uint32)
    alive = np.flatnonzero(lengths > 0)
    step = 0
    while len(alive):
        hashes[alive] = (hashes[alive] ^ data[starts[alive] + step]) * PRIME
        step += 1
        alive = alive[lengths[alive] > step]
    return hashes


def token_ngrams(tokens: list[bytes], longest: int, buckets: int) -> Rows:
    """Buckets of all n-grams of 2 to ``longest`` tokens."""
    single = token_hashes(tokens).view(np.int32).astype(np.int64).view(np.uint64)  # the library extends the sign
    running, found = single, []
    for n in range(2, longest + 1):
        if n > len(tokens):
            break
        running = running[:-1] * NGRAM + single[n - 1 :]
        found.append((running % np.uint64(buckets)).astype(np.int64))
    return np.concatenate(found) if found else np.empty(0, np.int64)


def character_ngrams(tokens: list[bytes], shortest: int, longest: int) -> Hashes:
    """FNV-1a of the n-grams of ``shortest`` to ``longest`` characters of every ``<token>``, without lone brackets.

    All n-grams that start somewhere are hashed together: each step of the loop adds a byte to all that still grow.
    """
    data = b"".join(b"<%b>" % token for token in tokens)
    values = _signed(data)
    raw = np.frombuffer(data, np.uint8)
    begins = np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))  # of characters
    lengths = np.array([len(token) + 2 for token in tokens])
    last = np.searchsorted(begins, np.cumsum(lengths))  # the character after each token
    ends = np.repeat(last, np.diff(last, prepend=0))  # the same for every character
    lone = np.zeros(len(begins) - 1, np.bool_)
    lone[last - 1] = True
    lone[np.concatenate([[0], last[:-1]])] = True
    first = np.arange(len(begins) - 1)
    hashes = np.full(len(first), OFFSET, np.uint32)
    found = []
    for n in range(1, longest + 1):
        grown = first + n <= ends[first]
        first, hashes = first[grown], hashes[grown]
        start, end = begins[first + n - 1], begins[first + n]
        for byte in range(int((end - start).max(initial=0))):
            more = start + byte < end
            hashes[more] = (hashes[more] ^ values[start[more] + byte]) * PRIME
        if n >= shortest:
            found.append(hashes[~lone[first]] if n == 1 else hashes.copy())
    return np.concatenate(found) if found else np.empty(0, np.uint32)


def _signed(data: bytes) -> Hashes:
    """Bytes as the library hashes them: signed, then widened."""
    return np.frombuffer(data, np.int8).astype(np.int32).view(np.uint32)


def _paths(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Huffman tree over labels: for (decision, label), 1 where the label lies to the right, and to the left.

    Built as the library builds it: labels come by falling count, and ties go to the inner node.
    """
    labels = len(counts)
    count = np.concatenate([counts.astype(np.float64), np.full(labels, 1e15)])
    leaf, inner = labels - 1, labels
    parent, right = np.full(2 * labels, -1), np.zeros(2 * labels, np.bool_)
    for node in range(labels, 2 * labels - 1):
        children = []
        for _ in range(2):
            if leaf >= 0 and count[leaf] < count[inner]:
                children.append(leaf)
                leaf -= 1
            else:
                children.append(inner)
                inner += 1
        count[node] = count[children].sum()
        parent[children] = node
        right[children[1]] = True
    to_right, to_left = np.zeros((labels, labels)), np.zeros((labels, labels))
    for label in range(labels):
        node = label
        while parent[node] >= 0:
            (to_right if right[node] else to_left)[parent[node] - labels, label] = 1.0
            node = parent[node]
    return to_right, to_left
