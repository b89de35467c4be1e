"""Keys and tokens of services, and whole private keys.

Most services begin their keys with a mark of their own, so those are known by it. A value that is assigned to a name
such as ``api_key`` counts if it is as random as a key: letters and digits, 3.5 bits a character or more.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from isoflop.corpus.pii.found import Span

_MARKS = (
    "AKIA ASIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xoxa- xoxb- xoxp- xoxr- xoxs- AIza sk_live_ sk_test_ "
    "rk_live_ rk_test_ sk- hf_ npm_ pypi- SG. eyJ"
)
_MARKED = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"  # Amazon
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}|glpat-[A-Za-z0-9_-]{20}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,100}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}"  # Google
    r"|[sr]k_(?:live|test)_[0-9a-zA-Z]{24,100}"  # Stripe
    r"|sk-(?:proj-|ant-[a-z0-9]{3,8}-)?[A-Za-z0-9_-]{32,200}"  # OpenAI, Anthropic
    r"|hf_[A-Za-z]{34}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,250}"
    r"|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"  # SendGrid
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{20,1000}"  # JSON web tokens
    r")(?![A-Za-z0-9])",
    re.ASCII,
)
_QUOTED = re.compile(r"[\"']([A-Za-z0-9+/_=-]{20,200})[\"']", re.ASCII)
_ASSIGNED = re.compile(
    r"(?i)(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?token|auth[_-]?token|password|passwd|private[_-]?key)"
    r"[\"']?[ \t]{0,9}(?:[:=]|=>|:=)[ \t]{0,9}$"
)
_PRIVATE = re.compile(r"-----BEGIN (?:[A-Z]{2,10} )?PRIVATE KEY-----")
_PRIVATE_END = re.compile(r"-----END (?:[A-Z]{2,10} )?PRIVATE KEY-----")
LEAST_BITS = 3.5
"""Entropy of the characters of an assigned value."""


def secrets(text: str) -> Iterator[Span]:
    """Keys, tokens and private keys."""
    for mark in _MARKS.split():
        yield from _marked(text, mark)
    for quoted in _QUOTED.finditer(text):
        before = text[max(0, quoted.start() - 50) : quoted.start()]
        if _ASSIGNED.search(before) and _is_random(quoted[1]) and not _MARKED.match(quoted[1]):
            yield quoted.span(1)
    position = 0
    while (begin := _PRIVATE.search(text, position)) and (end := _PRIVATE_END.search(text, begin.end())):
        yield begin.start(), end.end()
        position = end.end()


def _marked(text: str, mark: str) -> Iterator[Span]:
    """The keys that begin with ``mark``, which a search for the string itself finds at the speed of memory."""
    position = text.find(mark)
    while position >= 0:
        match = _MARKED.match(text, position)
        if match:
            yield match.span()
        position = text.find(mark, match.end() if match else position + 1)


def _is_random(value: str) -> bool:
    if not (any(map(str.isdigit, value)) and any(map(str.isalpha, value))):
        return False
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts) >= LEAST_BITS
