"""To which documents a rule for certain languages applies."""

from __future__ import annotations

from isoflop.corpus.document import Document
from isoflop.corpus.rules.text import view


def applies(languages: tuple[str, ...], document: Document) -> bool:
    """Whether a rule for ``languages`` is for this document; ``()`` stands for every language.

    ``""`` in ``languages`` stands for documents of which nobody said the language, unless their script is one that is
    written without spaces: then they are no English. A regional tag (``en-GB``) counts as its language.
    """
    if not languages:
        return True
    language = document.language.replace("_", "-").partition("-")[0].lower()
    if language or "" not in languages:
        return language in languages
    return document.text.isascii() or not view(document.text).unspaced
