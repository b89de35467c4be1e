"""When two texts count as the same: how they are rewritten before they are hashed.

``none``: as they are. ``space``: white space is one blank, none at the ends. ``case``: that, and lower case.
``ccnet``: lower case, accents off, digits 0, ASCII and typographic punctuation off (Wenzek et al. 2019,
arXiv 1911.00359, §3.2); meant for web pages, it makes one of all sums with as many digits, so it is no default.

Hashes have 64 bits: among a billion different texts, one is taken for another with a chance of 3%.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

import xxhash

Normalisation = Literal["none", "space", "case", "ccnet"]

DIGIT = re.compile(r"\d")
PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~¡-¿‐-⁞、-〗！-／：-＠［-｀｛-･]")


def normalise(text: str, how: Normalisation) -> str:
    """The text as it is compared."""
    if how == "none":
        return text
    text = " ".join(text.split())
    if how == "space":
        return text
    text = text.lower()
    if how == "case" or not text:
        return text
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return " ".join(PUNCTUATION.sub("", DIGIT.sub("0", text)).split())


def fingerprint(text: str, how: Normalisation) -> int:
    """A 64-bit hash of the text as it is compared."""
    return xxhash.xxh3_64_intdigest(normalise(text, how).encode("utf-8", "surrogatepass"))
