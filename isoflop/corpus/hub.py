"""A data set of the Hugging Face hub as a corpus, streamed: ``hf:owner/name?split=train&config=en``.

After the question mark stand ``config`` (which of the data set's configurations), ``split`` ("train" unless said),
``revision``, ``data_dir``, ``data_files`` (also several times; a pattern or a path, as ``load_dataset`` has them) and
``text`` (the field that holds the text, if not "text"). ``hf:json?data_files=web/*.jsonl`` reads local files.

Nothing of the data set is ever executed: data sets that need their own script are refused. What JSON cannot hold, such
as images, is left out of a document's ``extra``. Costs the network; nothing is kept on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from isoflop.corpus.document import CorpusError, Document, Reading
from isoflop.corpus.formats import Record, missing
from isoflop.corpus.readers import taken

PREFIX = "hf:"
_ASKED = ("config", "split", "revision", "data_dir", "data_files", "text")

_UNPICKLING = "pandas"


def data_set(corpus: str, reading: Reading | None = None) -> Iterator[Document]:
    """The documents of a data set named as above, in its own order. Raises CorpusError."""
    reading = reading or Reading()
    name, _, query = corpus.removeprefix(PREFIX).partition("?")
    asked = parse_qs(query, keep_blank_values=True)
    if name == _UNPICKLING:
        raise CorpusError(f"{corpus}: files of pandas can run code when they are read; convert them to parquet first.")
    if not name or not asked.keys() <= set(_ASKED):
        raise CorpusError(
            f"{corpus} does not name a data set: write hf:owner/name?split=train&config=en, with any of "
            f"{', '.join(_ASKED)} after the question mark."
        )
    text = asked.pop("text", ["text"])[-1]
    rows = _rows(corpus, _opened(corpus, name, asked), text)
    place = f"{PREFIX}{name}" + "".join(f"/{asked[key][-1]}" for key in ("config", "split") if key in asked)
    return _documents(corpus, rows, place, name.rpartition("/")[2], reading)


def _documents(corpus: str, rows: Iterator[Record], place: str, source: str, reading: Reading) -> Iterator[Document]:
    yield from taken(rows, place, source, reading)
    reading.finish(corpus)


def _opened(corpus: str, name: str, asked: dict[str, list[str]]) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing(error, f"to read {corpus}") from error
    settings: dict[str, Any] = {key: values[-1] for key, values in asked.items() if key not in ("config", "data_files")}
    if "data_files" in asked:
        settings["data_files"] = asked["data_files"]
    config = asked.get("config", [None])[-1]
    try:
        return datasets.load_dataset(name, config, streaming=True, **{"split": "train"} | settings)
    except Exception as error:  # the hub, the network, the data set's layout: each library has errors of its own
        raise CorpusError(
            f"cannot open {corpus} ({type(error).__name__}: {error}): check its name, config and split."
        ) from error


def _rows(corpus: str, opened: Any, text: str) -> Iterator[Record]:
    rows = iter(opened)
    for number in range(1, 1 << 62):
        try:
            row = next(rows, None)
        except Exception as error:
            raise CorpusError(
                f"{corpus} broke off before record {number} ({type(error).__name__}: {error})."
            ) from error
        if row is None:
            return
        yield {"text" if key == text else key: value for key, value in row.items() if key == text or _is_json(value)}


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return isinstance(value, str | int | float | bool)
