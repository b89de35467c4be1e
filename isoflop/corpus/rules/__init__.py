"""Cleaning by rules: what the papers count in a text, and how much of it they allow.

Every stage here looks at one document at a time, but for ``TokenOutliers``, which must have seen the corpus. They
share one word tokenizer (``words.py``) and one pass over the words of a text (``text.py``). Gopher's two stages, C4
and FineWeb together read 3.7 million characters a second on one busy core (``benchmarks/rules.py``).
"""

from isoflop.corpus.rules.c4 import C4
from isoflop.corpus.rules.ccnet import CCNetLength
from isoflop.corpus.rules.fineweb import FineWeb
from isoflop.corpus.rules.gopher_quality import GopherQuality
from isoflop.corpus.rules.gopher_repetition import GopherRepetition
from isoflop.corpus.rules.llama3_lines import RepeatedLines
from isoflop.corpus.rules.llama3_tokens import TokenOutliers
from isoflop.corpus.rules.llama3_words import DirtyWords
from isoflop.corpus.rules.normalize import Normalize
from isoflop.corpus.rules.url import Url
from isoflop.corpus.rules.words import WORDS

__all__ = [
    "C4",
    "WORDS",
    "CCNetLength",
    "DirtyWords",
    "FineWeb",
    "GopherQuality",
    "GopherRepetition",
    "Normalize",
    "RepeatedLines",
    "TokenOutliers",
    "Url",
]
