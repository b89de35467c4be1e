"""MediaWiki's markup as plain text: prose, headings and lists; no templates, tables, references, files or categories.

One pass with a stack takes templates, tables and links however they nest, so that the time is linear in the text. What
templates would have written is lost, which is all that telling their text needs a wiki for.
"""

from __future__ import annotations

import re

from isoflop.corpus.sources.markup import strip_tags, without

DEEPEST = 40
"""Marks nested deeper than this are text."""

_MARK = re.compile(r"\{\{|\}\}|^[ \t:]{0,20}\{\||^[ \t]{0,20}\|\}(?!\})|\[\[|\]\]", re.MULTILINE)
_CLOSES = {"}}": "{{", "|}": "{|", "]]": "[["}
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\[\]]{1,2000}(?:[ \t]([^\[\]\n]{0,2000}))?\]")
_REFERENCE = re.compile(r"<ref\b[^<>]*/>|<references\b[^<>]*/?>|</(?:ref|references)>", re.IGNORECASE)
_GONE = ("ref", "gallery", "timeline", "imagemap", "graph", "templatedata", "score", "mapframe", "maplink")
_ELEMENT = re.compile(rf"<({'|'.join(_GONE)})\b[^<>]*(?<!/)>", re.IGNORECASE)
_ELEMENT_END = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in _GONE}
_QUOTES = re.compile(r"'{2,}")
_SWITCH = re.compile(r"__[A-Z]{3,30}__")
_LIST = re.compile(r"^[*#:;]+[ \t]*", re.MULTILINE)
_NAMESPACE = re.compile(r":?\s*([^\W\d_][\w -]{0,30})\s*:", re.UNICODE)
_SPACES_OF_FILES = (
    "afbeelding archivo arquivo bestand bild categoria categorie category categoría catégorie datei ficheiro "
    "fichier fil file fitxer fișier fájl image imagem imagen imagine imatge immagine kategori kategoria kategorie "
    "kategorija kategória kép media plik slika soubor датотека зображення изображение категория категорија "
    "категорія слика файл"
)
_WITHOUT_TEXT = frozenset(_SPACES_OF_FILES.split())


def plain_wikitext(text: str) -> str:
    """The words that a reader of the page sees, but for templates and tables; headings keep their equals signs."""
    text = without(text, "<!--", "-->")
    text = _unlinked(_REFERENCE.sub("", _without_elements(text)))
    text = _EXTERNAL.sub(lambda link: (link[1] or "").strip(), text)
    text = _LIST.sub("- ", _QUOTES.sub("", _SWITCH.sub("", text)))
    return strip_tags(text)


def _without_elements(text: str) -> str:
    """``text`` without the elements that hold no prose; one that is never closed stays."""
    parts, position, never_closed = [], 0, set()
    for opened in _ELEMENT.finditer(text):
        name = opened[1].lower()
        if opened.start() < position or name in never_closed:
            continue
        closed = _ELEMENT_END[name].search(text, opened.end())
        if closed is None:
            never_closed.add(name)
            continue
        parts.append(text[position : opened.start()])
        position = closed.end()
    return "".join([*parts, text[position:]])


def _unlinked(text: str) -> str:
    """``text`` without templates and tables, and with links as the words they show."""
    frames: list[tuple[str, list[str]]] = [("", [])]
    position = 0
    for mark in _MARK.finditer(text):
        frames[-1][1].append(text[position : mark.start()])
        position = mark.end()
        kind = mark[0].strip(" \t:")
        if kind in _CLOSES and any(opened == _CLOSES[kind] for opened, _ in frames):
            _close(frames, _CLOSES[kind])
        elif kind in _CLOSES or len(frames) > DEEPEST:
            frames[-1][1].append(mark[0])
        else:
            frames.append((kind, []))
    frames[-1][1].append(text[position:])
    while len(frames) > 1:
        _give_up(frames)
    return "".join(frames[0][1])


def _close(frames: list[tuple[str, list[str]]], opening: str) -> None:
    while frames[-1][0] != opening:
        _give_up(frames)
    inner = frames.pop()[1]
    if opening == "[[":
        frames[-1][1].append(_shown("".join(inner)))


def _give_up(frames: list[tuple[str, list[str]]]) -> None:
    """The innermost mark was text after all."""
    opened, inner = frames.pop()
    frames[-1][1].append(opened + "".join(inner))


def _shown(link: str) -> str:
    """What a link shows: the words after its bar, else its target; nothing of files, categories, other languages."""
    if (namespace := _NAMESPACE.match(link)) and not link.startswith(":"):
        name = namespace[1].strip().lower()
        if name in _WITHOUT_TEXT or (len(name) in (2, 3) and "|" not in link):
            return ""
    target, bar, words = link.partition("|")
    return words if bar else target.removeprefix(":")
