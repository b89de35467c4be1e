"""E-mail and IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from isoflop.corpus.pii.found import Span

_EMAIL = re.compile(
    r"(?<![\w.+%-])([A-Za-z0-9][\w.+%-]{0,63})"
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+)([A-Za-z]{2,24})(?![\w@-])",
    re.ASCII,
)
_DOMAINS = (
    "academy agency aero app arpa art asia bank biz blog cafe cat center church city cloud club com coop design dev "
    "digital edu email expert foundation fund games global gov group health help host hotel info ink institute int "
    "international jobs law legal life link live local love media mil mobi museum name net network news nyc online org "
    "page partners post press pro rocks school science shop site social software solutions space store studio support "
    "systems team tech today tools top travel university video vip website wiki work works world xyz zone"
)
_TOP_LEVEL = frozenset(_DOMAINS.split())
_EXAMPLES = frozenset({"example", "invalid", "localhost", "test"})
_NOBODY = frozenset({"git", "noreply", "no-reply"})

_V4 = re.compile(r"[1-9](?<![\w.-].)\d{0,2}(?:\.(?:0|[1-9]\d{0,2})){3}(?![\w-]|\.\d)", re.ASCII)
_BEFORE_V4 = re.compile(
    r"(?i)(?:\b(?:ip|ipv4|host|hostname|address|addr|server|ping|ssh|router|gateway|proxy)\W{1,4}(?:is\s)?|://|@)$"
)
_V6 = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d)")


def emails(text: str) -> Iterator[Span]:
    """Addresses under a country's or a common generic domain; not those of documentation, nor of nobody."""
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        local, domain, top = match[1], match[2].lower().rstrip("."), match[3].lower()
        if len(top) != 2 and top not in _TOP_LEVEL:
            continue
        if domain.rpartition(".")[2] not in _EXAMPLES and local.lower() not in _NOBODY and ".." not in local:
            yield match.span()


def ip_addresses(text: str) -> Iterator[Span]:
    """Public IPv4 and IPv6 addresses.

    Four small numbers between dots are a version or a section as often as an address: unless two of them have three
    digits, a word such as "host" or "://" must stand before.
    """
    for match in _V4.finditer(text):
        long = sum(len(part) == 3 for part in match[0].split(".")) >= 2
        before = text[max(0, match.start() - 20) : match.start()]
        if (long or _BEFORE_V4.search(before)) and _is_public(match[0]):
            yield match.span()
    for match in _V6.finditer(text):
        if len([group for group in match[0].split(":") if group]) >= 3 and _is_public(match[0]):
            yield match.span()


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
