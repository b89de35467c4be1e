"""The raw text that everything starts from.

``documents("python")`` is the default corpus that every Python installation carries; ``documents(path)`` reads a file
or a folder, ``documents("hf:owner/name")`` a data set of the Hugging Face hub. All stream: memory does not grow with
the corpus.
"""

from collections.abc import Iterator
from pathlib import Path

from isoflop.corpus.document import CorpusError, Document, Reading
from isoflop.corpus.formats import SUFFIXES
from isoflop.corpus.hub import PREFIX, data_set
from isoflop.corpus.python_sources import installed_sources
from isoflop.corpus.readers import read

__all__ = ["SUFFIXES", "CorpusError", "Document", "Reading", "documents", "read"]


def documents(corpus: str | Path, reading: Reading | None = None) -> Iterator[Document]:
    """The documents of ``corpus``, in an order that depends on nothing but the corpus.

    ``"python"`` names the default corpus (a folder of that name is ``"./python"``), ``"hf:…"`` a data set as
    :mod:`isoflop.corpus.hub` says; anything else is the path of a file or folder. What was met on the way is counted in
    ``reading``. Raises CorpusError.
    """
    if isinstance(corpus, str) and corpus.startswith(PREFIX):
        return data_set(corpus, reading)
    return installed_sources(reading) if corpus == "python" else read(corpus, reading)
