"""Numbers that belong to a person: telephones, payment cards, bank accounts, American social security.

Cards have a check digit (Luhn, ISO/IEC 7812-1 annex B) and accounts two (modulo 97, ISO 13616), which one in ten and
one in a hundred random numbers pass; a known prefix and length is asked for as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isoflop.corpus.pii.found import Span

_AFTER = r"(?![\w+*/^=-]|[.,]\d)"
_INTERNATIONAL = re.compile(
    r"\+(?<![\w+.].)[1-9]\d{0,2}(?:[ .-]?\(0?\d{1,4}\))?(?:[ .-]?\d{1,5}+){2,6}+(?![\w+*/^=]|[.,]\d)", re.ASCII
)
_AMERICAN = re.compile(
    r"[(2-9](?<![\w.,+*/=-].)(?:(?<=\()[2-9]\d\d\) ?[2-9]\d\d-|(?<!\()\d\d(?P<mark>[.-])[2-9]\d\d(?P=mark))\d{4}"
    + _AFTER,
    re.ASCII,
)
_CARD = re.compile(
    r"[2-6](?<![\w.,+*/=-].)(?:\d{3}(?P<mark>[ -])\d{4}(?P=mark)\d{4}(?P=mark)\d{4}"
    r"|[47]\d\d(?P<amex>[ -])\d{6}(?P=amex)\d{5}|\d{12,18})(?! \d)" + _AFTER,
    re.ASCII,
)
_IBAN = re.compile(r"[A-Z](?<!\w.)[A-Z]\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.ASCII)
_SSN = re.compile(r"[0-8](?<![\w.,+*/=-].)(?<!0(?=00))(?<!6(?=66))\d\d-(?!00)\d\d-(?!0000)\d{4}" + _AFTER, re.ASCII)
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
    "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
    "LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 "
    "SK24 SM27 ST25 SV28 TN24 TR26 UA29 VA22 VG24 XK20"
)
_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}


def phones(text: str) -> Iterator[Span]:
    """International numbers (E.164: a plus, 8 to 15 digits), and American ones with their usual marks."""
    if "+" in text:
        for match in _INTERNATIONAL.finditer(text):
            before = text[max(0, match.start() - 3) : match.start()].rstrip()[-1:]
            if 8 <= sum(map(str.isdigit, match[0])) <= 15 and before not in tuple("0123456789)}]=*/^$\\+-"):
                yield match.span()
    yield from (match.span() for match in _AMERICAN.finditer(text))


def cards(text: str) -> Iterator[Span]:
    """Payment cards of the large networks, in groups or in one piece."""
    for match in _CARD.finditer(text):
        digits = [int(character) for character in match[0] if character.isdigit()]
        if _is_card(digits) and _luhn(digits):
            yield match.span()


def accounts(text: str) -> Iterator[Span]:
    """International bank account numbers."""
    for match in _IBAN.finditer(text):
        if end := _account_end(match[0]):
            yield match.start(), match.start() + end


def social_security(text: str) -> Iterator[Span]:
    """American social security numbers that were ever given out: no area 000, 666 or 9xx."""
    return (match.span() for match in _SSN.finditer(text))


def _is_card(digits: list[int]) -> bool:
    start = int("".join(map(str, digits[:4])))
    length = len(digits)
    return (
        (start // 1000 == 4 and length in (13, 16, 19))
        or ((51 <= start // 100 <= 55 or 2221 <= start <= 2720) and length == 16)
        or (start // 100 in (34, 37) and length == 15)
        or (
            (start == 6011 or start // 100 == 65 or 644 <= start // 10 <= 649 or 3528 <= start <= 3589) and length == 16
        )
        or ((300 <= start // 10 <= 305 or start // 100 in (36, 38)) and length == 14)
    )


def _luhn(digits: list[int]) -> bool:
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _account_end(candidate: str) -> int:
    """Where the account number that ``candidate`` begins with ends; 0 if there is none."""
    length, seen = _LENGTHS.get(candidate[:2], 0), 0
    for end, character in enumerate(candidate, 1):
        seen += character != " "
        if length and seen == length:
            bare = candidate[:end].replace(" ", "")
            rest = candidate[end : end + 1]
            valid = int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1
            return end if valid and rest in ("", " ") else 0
    return 0
