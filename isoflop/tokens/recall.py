"""Facts to be remembered: one sentence form that the needle test asks for, and documents that teach recalling it.

A needle test hides a fact far back in a text and asks for it at the end (Kamradt 2023; Llama 3 gates its long contexts
with it). A model of a few million parameters never learns that from prose, so a source of documents may be added to its
long-context stage in which facts come up twice: pieces of real text, with sentences between whose second occurrence can
only be predicted from the first. Their names and words are those of the text itself, so that what is taught is looking
up and not the test's own lists; the form of the sentence is the test's. A result with such a source in the mixture is
one of a model that practised, and should be called so. Costs about 10 MB of text a second.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator

from isoflop.corpus import Document
from isoflop.keys import derive_key

NAMES = ("Alice", "Bruno", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karin", "Leo")
"""Whom the test's facts are about."""
WORDS = (
    *("apple", "bridge", "candle", "dragon", "engine", "forest", "garden", "hammer", "island", "jacket", "kitten"),
    *("ladder", "mirror", "needle", "orange", "planet", "rabbit", "silver", "tunnel", "umbrella", "violin", "window"),
)
"""What they say; those that a tokenizer tells apart by their first token can be the answer."""
WORD = re.compile(r"\b[a-z]{4,9}\b")
BREAK = re.compile(r"(?<=[.!?;,])\s+")


def question(name: str) -> str:
    """The fact about ``name`` up to where it says anything."""
    return f" The password of {name} is"


def fact(name: str, word: str) -> str:
    """A sentence that says it."""
    return f"{question(name)} {word}."


def recall_documents(documents: Iterable[Document], length: int, facts: int, seed: int = 0) -> Iterator[Document]:
    """Documents of about ``length`` characters of these texts, each with ``facts`` facts that come up twice.

    A fact's first place is in the first half of the piece, its second anywhere after it. Texts with too few words or
    sentences are left out.
    """
    if length < 1 or facts < 1:
        raise ValueError(f"documents of at least one character and one fact, not {length} and {facts}")
    for document in documents:
        for number, start in enumerate(range(0, len(document.text) - length // 2, length)):
            piece = document.text[start : start + length]
            made = with_facts(piece, facts, random.Random(derive_key(seed, "recall", document.place, number)))
            if made is not None:
                yield Document(made, f"{document.place}#{number}", source="recall")


def with_facts(text: str, facts: int, rng: random.Random) -> str | None:
    """The text with facts between its clauses; None where it has too few words or clauses for so many."""
    words, clauses = sorted(set(WORD.findall(text))), BREAK.split(text)
    if len(words) < 2 * facts or len(clauses) < 4:
        return None
    chosen = rng.sample(words, 2 * facts)
    half = len(clauses) // 2
    said: dict[int, list[str]] = {}
    for name, word in zip(chosen[:facts], chosen[facts:], strict=True):
        first = rng.randrange(1, half + 1)
        for place in (first, rng.randrange(first + 1, len(clauses) + 1)):
            said.setdefault(place, []).append(fact(name.capitalize(), word))
    return join(clauses, said)


def join(clauses: list[str], said: dict[int, list[str]]) -> str:
    """The clauses with what is said before each, by its number, and after the last."""
    text = ""
    for number, clause in enumerate([*clauses, ""]):
        text += "".join(said.get(number, []))
        text += f" {clause}" if text and clause else clause
    return text
