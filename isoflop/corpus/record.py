"""A document as a record, which is a JSON object or the row of a table, and back.

A record from elsewhere has its text in ``text``; ``id``, ``source``, ``language`` or ``lang``, ``license`` or
``licence`` and ``url`` are taken where they are strings (an id may be a whole number), and all else is ``extra``. A
record that isoflop wrote has ``isoflop_place``, where its document was first read, and comes back as that document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from isoflop.corpus.document import Document, RecordError

PLACE = "isoflop_place"
_NAMES = {
    "id": ("id",),
    "source": ("source",),
    "language": ("language", "lang"),
    "license": ("license", "licence"),
    "url": ("url",),
}


def parse(line: bytes) -> dict[str, Any]:
    """The JSON object of one line; raises RecordError."""
    try:
        record = json.loads(decoded(line))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"broken JSON ({error})") from error
    if not isinstance(record, dict):
        raise RecordError('no field "text"')
    return record


def decoded(data: bytes) -> str:
    """Bytes as text, a byte-order mark left out; raises RecordError if they are not text in UTF-8."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8 at byte {error.start}") from error
    if "\0" in text:
        raise RecordError("holds NUL bytes")
    return text


def from_record(record: Mapping[str, Any], place: str, source: str = "") -> Document:
    """The document of one record, read at ``place`` in the collection ``source``; raises RecordError."""
    if "text" not in record:
        raise RecordError('no field "text"')
    text = record["text"]
    if not isinstance(text, str):
        raise RecordError(f'"text" is not a string but {type(text).__name__}')
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, UTF-8 cannot
        raise RecordError(f"lone surrogate at character {error.start}") from error
    if PLACE in record:
        return _own(record, text)
    left = {key: value for key, value in record.items() if key != "text"}
    if type(left.get("id")) is int:
        left["id"] = str(left["id"])
    found = {field: _taken(left, names) for field, names in _NAMES.items()}
    return Document(
        text, place, **found | {"id": found["id"] or place, "source": found["source"] or source}, extra=left
    )


def to_json(document: Document) -> bytes:
    """The document as one line of JSON without its newline, the same bytes for equal documents.

    Numbers that JSON does not know, NaN and the infinities, become null.
    """
    record: dict[str, Any] = {"text": document.text}
    record |= {field: value for field in _NAMES if (value := getattr(document, field))}
    if document.extra:
        record["extra"] = dict(document.extra)
    record[PLACE] = document.place
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        line = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return line.encode("utf-8", "backslashreplace")


def _own(record: Mapping[str, Any], text: str) -> Document:
    words = {field: record.get(field, "") for field in _NAMES}
    extra, place = record.get("extra", {}), record[PLACE]
    spelled = all(isinstance(word, str) and _word(word) == word for word in (place, *words.values()))
    if not spelled or not isinstance(extra, dict):
        raise RecordError(f'has "{PLACE}" and yet is not a document that isoflop wrote')
    return Document(text, place, **words, extra=extra)


def _taken(left: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first string among the fields ``names``, moved out of ``left``."""
    for name in names:
        if word := _word(left.get(name)):
            del left[name]
            return word
    return ""


def _word(value: Any) -> str:
    """``value`` if it is a string that UTF-8 can spell, else nothing."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() or value.encode("utf-8", "ignore").decode() == value else ""


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
