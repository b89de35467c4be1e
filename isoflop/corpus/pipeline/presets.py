"""Known recipes as lists of stages, in TOML, to be used as they are or printed and changed.

Thresholds that a recipe does not spell out are the defaults of its stages, which cite where they are from. What needs
files of the user's own (lists of URLs and words, reference texts for a classifier) is in no preset: print one with
``--dry-run`` and add the stage.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A recipe: what it follows, in half a line, and its stages as TOML."""

    about: str
    stages: str


MINIMAL = """
[[stage]]
name = "normalize"

[[stage]]
name = "exact_duplicates"

[[stage]]
name = "near_duplicates"
"""

# 20 × 10 has its threshold at a similarity of about 0.74; the paper asks for 13-grams and 0.8.
GOPHER = """
[[stage]]
name = "gopher_quality"

[[stage]]
name = "gopher_repetition"

[[stage]]
name = "exact_duplicates"

[[stage]]
name = "near_duplicates"
n = 13
bands = 20
rows = 10
similarity = 0.8
"""

# The code that made C4 keeps one of all equal lines, and counts the sentences of a page again without the others.
C4 = """
[[stage]]
name = "language"
languages = ["en"]
confidence = 0.99

[[stage]]
name = "c4"

[[stage]]
name = "duplicate_lines"
times = 1
per_documents = 0
count = "occurrences"
keep_first = true
normalise = "case"
letters = 1

[[stage]]
name = "c4"
"""

# C4's rules with the minima of datatrove, which made FineWeb: those of the paper and not of C4's own code.
FINEWEB = """
[[stage]]
name = "language"
languages = ["en"]
confidence = 0.65

[[stage]]
name = "gopher_repetition"

[[stage]]
name = "gopher_quality"

[[stage]]
name = "c4"
end_marks = ""
min_sentences = 5
min_words = 3

[[stage]]
name = "fineweb"

[[stage]]
name = "near_duplicates"
n = 5
bands = 14
rows = 8

[[stage]]
name = "pii"
"""

# CommonCrawl by CCNet's rules, every other source by its own cleaner; a source is known by its name. The classifier and
# the language model that rank pages by Wikipedia need texts of Wikipedia, and are the user's to add. CCNet's paragraphs
# are lines, and its code removes the first occurrence of one that is repeated too.
_OTHERS = '["*github*", "code", "*arxiv*", "*stackexchange*", "*wikipedia*", "books*", "*gutenberg*"]'
LLAMA1 = f"""
[[stage]]
name = "github"
only = ["*github*", "code"]

[[stage]]
name = "arxiv"
only = ["*arxiv*"]

[[stage]]
name = "stackexchange"
only = ["*stackexchange*"]

[[stage]]
name = "wikipedia"
only = ["*wikipedia*"]

[[stage]]
name = "books"
only = ["books*", "*gutenberg*"]

[[stage]]
name = "ccnet_length"
except = {_OTHERS}

[[stage]]
name = "duplicate_paragraphs"
unit = "line"
keep_first = false
normalise = "ccnet"
letters = 1
except = {_OTHERS}

[[stage]]
name = "language"
confidence = 0.5
except = {_OTHERS}

[[stage]]
name = "exact_duplicates"
only = ["*github*", "code"]

[[stage]]
name = "book_overlap"
only = ["books*", "*gutenberg*"]
"""

LLAMA3 = """
[[stage]]
name = "pii"

[[stage]]
name = "exact_duplicates"

[[stage]]
name = "near_duplicates"

[[stage]]
name = "duplicate_lines"
times = 6
per_documents = 30000000
keep_first = false

[[stage]]
name = "llama3_lines"

[[stage]]
name = "llama3_tokens"
"""

PRESETS = {
    "minimal": Preset("exact and near duplicates, and nothing else", MINIMAL),
    "gopher": Preset("Gopher (2112.11446): quality, repetition, duplicates", GOPHER),
    "c4": Preset("C4 (1910.10683): English sentences, no line twice", C4),
    "fineweb": Preset("FineWeb (2406.17557): English web pages", FINEWEB),
    "llama1": Preset("LLaMA (2302.13971): each source by its own rules", LLAMA1),
    "llama3": Preset("Llama 3 (2407.21783): duplicates of all sizes, odd lines, odd words", LLAMA3),
}


def preset(name: str) -> dict[str, Any]:
    """The config of a preset as plain values, without a corpus. Raises ValueError that suggests the nearest name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(PRESETS)}"
        raise ValueError(f"there is no preset {name!r}; {hint}")
    return tomllib.loads(PRESETS[name].stages)
