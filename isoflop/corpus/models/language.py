"""Stage ``language``: says in which language a document is written, and drops what is unsure or not wanted.

CCNet keeps a page whose best language has at least half of the probability (arXiv 1911.00359, §3.2). Two engines know
languages, and neither is built in: the package py3langid (97 languages, its model inside), or any supervised fastText
model such as ``lid.176.bin``, read by ``models/fasttext.py``. They see ``characters`` of a document, half from its
beginning and half from its middle, because a book's language does not change while its licence page may be in another.

Measured on 2,000 characters: see ``benchmarks/text_models.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.models.fasttext import FastText
from isoflop.corpus.stage import Dropped, Stage, Verdict


class Identifier(Protocol):
    """An engine: the likeliest language of each text, and its probability; ("", 0) where it cannot say."""

    def __call__(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Answers in the order of the texts."""


class FastTextIdentifier:
    """Languages by a fastText model whose labels are languages."""

    def __init__(self, path: str) -> None:
        """Read the model at ``path``. Raises FastTextError."""
        self.model = FastText.load(path)

    def __call__(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Labels without their prefix."""
        return [self.model.predict(text) for text in texts]


class LangidIdentifier:
    """Languages by py3langid, with probabilities that it tempers by length."""

    def __init__(self) -> None:
        """Load the package's own model. Raises CorpusError if the package is missing."""
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError:
            raise CorpusError(
                'the stage "language" needs py3langid: pip install "isoflop[corpus]", or name a fastText model'
            ) from None
        self.identifier: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def __call__(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Codes of ISO 639."""
        return [self.identifier.classify(text) if text.strip() else ("", 0.0) for text in texts]


@lru_cache(maxsize=2)
def identifier(engine: str, model: str) -> Identifier:
    """The engine that a config names, loaded once a process."""
    return FastTextIdentifier(model) if engine == "fasttext" else LangidIdentifier()


def sample(text: str, characters: int) -> str:
    """``characters`` of a text, half from the beginning and half from the middle; all of it if it is shorter."""
    if len(text) <= characters:
        return text
    half = characters // 2
    middle = max(half, (len(text) - half) // 2)
    return text[:half] + " " + text[middle : middle + half]


@dataclass(frozen=True)
class Language(Stage):
    """Sets a document's language; drops it below ``confidence`` (CCNet: 0.5) or outside ``languages``.

    Attributes:
        languages: Codes to keep, as the engine spells them; empty keeps all.
        confidence: The least probability of the best language.
        engine: ``py3langid``, or ``fasttext`` with a file in ``model``.
        model: Path of a ``.bin`` or ``.ftz`` model.
        trust: Believe a language that the record states, and ask the engine for the others only.
        characters: How much of a document the engine sees.
    """

    name: ClassVar[str] = "language"
    inputs: ClassVar[tuple[str, ...]] = ("model",)
    languages: tuple[str, ...] = ()
    confidence: float = 0.5
    engine: Literal["py3langid", "fasttext"] = "py3langid"
    model: str = ""
    trust: bool = False
    characters: int = 2000

    def __post_init__(self) -> None:
        if (self.engine == "fasttext") != bool(self.model):
            raise ValueError('language: engine = "fasttext" and a path in model belong together')
        if not 0 <= self.confidence <= 1 or self.characters < 2:
            raise ValueError("language: confidence must lie in [0, 1], and characters be at least 2")

    def prepare(self, folder: Path) -> None:
        """Fail before the first document if the engine is not there."""
        identifier(self.engine, self.model)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """The documents with their language, or why they go."""
        asked = [i for i, document in enumerate(documents) if not (self.trust and document.language)]
        found = identifier(self.engine, self.model)([sample(documents[i].text, self.characters) for i in asked])
        answers = [(document.language, 1.0) for document in documents]
        for i, answer in zip(asked, found, strict=True):
            answers[i] = answer
        return [self._verdict(*pair) for pair in zip(documents, answers, strict=True)]

    def judge_one(self, document: Document) -> Verdict:
        """The document with its language, or why it goes."""
        return self.judge([document], 0, Path())[0]

    def _verdict(self, document: Document, answer: tuple[str, float]) -> Verdict:
        language, confidence = answer
        if confidence < self.confidence:
            return Dropped(document, "language unsure", f"{language or 'none'} {confidence:.2f}")
        if self.languages and language not in self.languages:
            return Dropped(document, "language not wanted", language)
        return document._replace(language=language)
