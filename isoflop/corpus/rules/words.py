"""The word tokenizer that every rule counts with, pinned because it changes verdicts.

Half of the published thresholds are per word, and no paper says what a word is: of the same 600 documents one
tokenizer keeps 374 and another 204. So there is one here, its name is ``WORDS``, and a change of what it answers
changes the name. One regular expression, one pass:

- a run of letters, digits and combining marks, with single apostrophes and hyphens inside (``don't``, ``vis-à-vis``)
  and points and commas between digits (``1,000.5``);
- one letter, with its marks, of a script written without spaces: Han, kana, Thai, Lao, Tibetan, Burmese, Khmer. A
  dictionary would cut better, but it would be a model with versions of its own. Lengths and n-grams of such text mean
  something else than of English, and a rule that depends on them says what it does there;
- a run of symbols between white space, such as a dash or an equals sign. Symbols that touch a word are in no word, so
  that ``that,`` is the stop word. Where every symbol is a word, as with datatrove's tokenizers, Gopher's share of words
  with a letter is a share of punctuation: it then drops 34 of 55 Russian novels and plays, for their dialogue.

Case is kept. Categories are those of the Unicode version of the Python that runs, and that is part of the name;
beyond the basic plane whole blocks are taken for letters (0x10000 to 0x1EEFF) or Han (0x20000 to 0x3FFFF), the rest
for symbols, because a fine map of rare planes would make every word three times as expensive. Costs 0.33 µs a
word of English on a busy core.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby

WORDS = f"isoflop-words-1/unicode-{unicodedata.unidata_version}"

# Unicode's property Sentence_Terminal in the basic plane, which Python's tables leave out.
SENTENCE_ENDS = frozenset(
    ".!?\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362"
    "\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8\u1aa9\u1aaa\u1aab\u1b5a\u1b5b\u1b5e\u1b5f"
    "\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047\u2048\u2049\u2e2e\u2e3c\u2e53\u2e54\u3002\ua4ff\ua60e\ua60f"
    "\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d\uaa5e\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01"
    "\uff0e\uff1f\uff61"
)

_UNSPACED_BLOCKS = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # Han that stands among the punctuation
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # kana of half width
    (0x20000, 0x3FFFF),
)
_ASTRAL_LETTERS = "\U00010000-\U0001cfff\U0001d400-\U0001d7ff\U0001e000-\U0001eeff"
_ASTRAL_HAN = "\U00020000-\U0003ffff"
_JOINERS = "\u200c\u200d"  # stand inside words of Persian and of Indian languages
_ASCII = r"[0-9A-Za-z]+(?:(?:['\-]|(?<=\d)[.,](?=\d))[0-9A-Za-z]+)*|(?<!\S)[^\s0-9A-Za-z]+(?!\S)"
_ascii_words = re.compile(_ASCII).findall  # the same as the pattern for all of Unicode, and a fifth faster
_CLOSING = "\"'”’»)]}）」』"


def words(text: str) -> list[str]:
    """The words of ``text`` in their order; every letter and digit is in exactly one."""
    return _ascii_words(text) if text.isascii() else _finder()(text)


def sentences(line: str) -> int:
    """How many sentences a line holds, at least one unless it is blank.

    A sentence ends at its marks and closing quotes if white space follows or the mark is a wide one, as in Japanese.
    So an abbreviation (``Mr. Smith``) counts one too many, which trained splitters such as C4's avoid more often.
    """
    ends = len(_sentence_end().findall(line))
    open_end = line.rstrip().rstrip(_CLOSING)[-1:]
    return ends + (open_end != "" and open_end not in SENTENCE_ENDS)


def is_symbol(word: str) -> bool:
    """Whether a word holds neither letter nor digit."""
    return not any(map(str.isalnum, word))


def has_letter(word: str) -> bool:
    """Whether a word holds a letter."""
    return word.isalpha() or any(map(str.isalpha, word))


def is_unspaced(word: str) -> bool:
    """Whether a word is a letter of a script that is written without spaces."""
    first = ord(word[0])
    return first >= 0x0E00 and word[0].isalpha() and any(low <= first <= high for low, high in _UNSPACED_BLOCKS)


@lru_cache(maxsize=1)
def _sentence_end() -> re.Pattern[str]:
    marks = re.escape("".join(sorted(SENTENCE_ENDS)))
    closing = re.escape(_CLOSING)
    return re.compile(rf"(?<![{marks}])[{marks}]++[{closing}]*+(?!\S)|[。！？｡]+[{closing}]*")


@lru_cache(maxsize=1)
def _finder() -> Callable[[str], list[str]]:
    classes: dict[str, list[str]] = {"spaced": [], "unspaced": [], "mark": [], "other": []}
    for kind, run in groupby(map(chr, range(0x10000)), _kind):
        first, *rest = run
        classes[kind].append(f"{re.escape(first)}-{re.escape(rest[-1] if rest else first)}")
    mark = "".join(classes["mark"])
    spaced = "".join(classes["spaced"]) + mark + _JOINERS + _ASTRAL_LETTERS
    unspaced = "".join(classes["unspaced"]) + _ASTRAL_HAN
    word = rf"[{spaced}]+(?:(?:['’\-]|(?<=\d)[.,](?=\d))[{spaced}]+)*"
    return re.compile(rf"{word}|[{unspaced}][{mark}]*|(?<!\S)[^\s{spaced}{unspaced}]+(?!\S)").findall


def _kind(character: str) -> str:
    if is_unspaced(character):
        return "unspaced"
    category = unicodedata.category(character)[0]
    return "mark" if category == "M" else "spaced" if category in "LN" else "other"
