"""Tokenizers side by side on the same text: how much text a token holds, where, and what of a vocabulary is used.

Bytes per token decide how many tokens a corpus is; the size of the vocabulary decides how many parameters read and
write them. Neither is a quality: losses are only comparable per byte, and the best vocabulary is the one whose model
predicts best at equal compute, which a comparison like this narrows down and a sweep answers.

Streams the corpus once and encodes it with every tokenizer; memory is a batch of texts and a count for each id.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus import CorpusError, Document
from isoflop.tokens.batches import batches
from isoflop.tokens.selection import group_of
from isoflop.tokens.tokenizer import Tokenizer

ALL = "all"
OTHERS = "(all others)"
MOST_GROUPS = 30
_NUMBERS = ("0123456789", "7", "x10", "3.14159", " 2024", "1000000")


@dataclass
class Text:
    """How much text of one group was encoded. Words are what white space separates: few in Chinese or Japanese."""

    documents: int = 0
    text_bytes: int = 0
    words: int = 0


@dataclass
class Counts:
    """What one tokenizer made of the same text: tokens in each group, and how often each id occurred in all."""

    tokenizer: Tokenizer
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    uses: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.uses = np.zeros(self.tokenizer.vocab_size, np.int64)

    @property
    def text_ids(self) -> int:
        """How many ids stand for text."""
        return int(np.count_nonzero(self.tokenizer.byte_lengths))

    @property
    def unused(self) -> float:
        """The share of the ids for text that never occurred."""
        return 1 - np.count_nonzero(self.uses) / self.text_ids

    @property
    def entropy(self) -> float:
        """Bits per token if each came by its frequency alone; at most the logarithm of the vocabulary."""
        share = self.uses[self.uses > 0] / self.uses.sum()
        return float(-(share * np.log2(share)).sum())


@dataclass(frozen=True)
class Comparison:
    """``texts`` by group and ``counts`` by tokenizer, over the same documents; the group "all" is their sum.

    Small groups are together in OTHERS.
    """

    texts: dict[str, Text]
    counts: dict[str, Counts]

    def bytes_per_token(self, name: str, group: str = ALL) -> float:
        """UTF-8 bytes of text that one token stands for on average."""
        return self.texts[group].text_bytes / max(1, self.counts[name].tokens[group])

    def fertility(self, name: str, group: str = ALL) -> float:
        """Tokens for each word between white space."""
        return self.counts[name].tokens[group] / max(1, self.texts[group].words)


def compare(
    tokenizers: Mapping[str, Tokenizer],
    documents: Iterable[Document],
    by: str = "source",
    group_bytes: int = 1_000_000,
    groups: int = MOST_GROUPS,
) -> Comparison:
    """Encode the first ``group_bytes`` of every group with every tokenizer.

    ``by`` is "source", "language" or any other thing that records say, such as "domain"; the ``groups`` of most text
    are told apart, since records may each have a source of their own. Raises CorpusError if there is no text.
    """
    texts: dict[str, Text] = {ALL: Text()}
    counts = {name: Counts(tokenizer) for name, tokenizer in tokenizers.items()}
    for batch in batches(_sample(documents, by, group_bytes)):
        for group, text in batch:
            for total in (texts.setdefault(group, Text()), texts[ALL]):
                total.documents += 1
                total.text_bytes += len(text.encode("utf-8"))
                total.words += len(text.split())
        for count in counts.values():
            encoded = count.tokenizer.encode_batch([text for _, text in batch])
            count.uses += np.bincount(np.concatenate(encoded), minlength=len(count.uses))
            for (group, _), ids in zip(batch, encoded, strict=True):
                count.tokens[group] += len(ids)
                count.tokens[ALL] += len(ids)
    if not texts[ALL].text_bytes:
        raise CorpusError("there is no text to compare tokenizers on.")
    _together(texts, counts, groups)
    return Comparison(texts, counts)


def _together(texts: dict[str, Text], counts: Mapping[str, Counts], most: int) -> None:
    """Count all groups but the ``most`` of most text, ALL aside, as one; no group is left alone in it."""
    by_size = sorted(texts.keys() - {ALL}, key=lambda group: (-texts[group].text_bytes, group))
    if len(by_size) <= most + 1:
        return
    others = texts[OTHERS] = Text()
    for group in by_size[most:]:
        text = texts.pop(group)
        others.documents += text.documents
        others.text_bytes += text.text_bytes
        others.words += text.words
        for count in counts.values():
            count.tokens[OTHERS] += count.tokens.pop(group, 0)


def digits_alone(tokenizer: Tokenizer) -> bool:
    """Whether every digit is a token of its own, perhaps with a space before it, as arithmetic wants."""
    parts = [tokenizer.decode([number]) for text in _NUMBERS for number in tokenizer.encode(text)]
    return all(len(part.strip()) == 1 for part in parts if any(map(str.isdigit, part)))


def _sample(documents: Iterable[Document], by: str, group_bytes: int) -> Iterator[tuple[str, str]]:
    left: dict[str, int] = defaultdict(lambda: group_bytes)
    for document in documents:
        group = _group(document, by)
        if left[group] > 0:
            data = document.text.encode("utf-8")[: left[group]]
            left[group] -= len(data)
            yield group, data.decode("utf-8", errors="ignore")


def _group(document: Document, by: str) -> str:
    said = getattr(document, by) if by in Document._fields else document.extra.get(by)
    if not said and by == "source":
        return group_of(document.place)
    return str(said or "unstated")
