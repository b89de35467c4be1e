"""How fast a corpus is read, written and cleaned by source, on one processor: megabytes of text a second of its time.

    python benchmarks/corpus_reading.py CORPUS --megabytes 20 --rounds 3

CORPUS is any corpus; its first documents are written once in every format into a temporary folder and read back. The
formats take turns in every round, and the median round is printed. Pages of HTML are those documents' paragraphs
between a menu and a footer, so their figure is for simple pages.
"""

from __future__ import annotations

import argparse
import gzip
import html
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from isoflop.corpus import Document, documents, read
from isoflop.corpus.pii import Pii
from isoflop.corpus.sources.arxiv import Arxiv
from isoflop.corpus.sources.books import Books
from isoflop.corpus.sources.github import Github
from isoflop.corpus.sources.wikipedia import Wikipedia
from isoflop.corpus.writer import read_documents, write_documents

PAGES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sample = taken(options.corpus, options.megabytes)
    size = sum(len(document.text.encode()) for document in sample) / 1e6
    print(f"{len(sample)} documents, {size:.1f} MB of text")
    with tempfile.TemporaryDirectory() as folder:
        tasks = dict(reading(Path(folder), sample)) | dict(cleaning(sample))
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(options.rounds):
            for name, task in tasks.items():
                start = time.process_time()
                task()
                seconds[name].append(time.process_time() - start)
    for name, found in seconds.items():
        median = statistics.median(found)
        speed = f"{PAGES / median:7.1f} pages/s" if "html" in name else f"{size / median:7.1f} MB/s"
        print(f"{name:24} {speed}")


def taken(corpus: str, megabytes: float) -> list[Document]:
    sample, total = [], 0
    for document in documents(corpus):
        sample.append(document)
        total += len(document.text.encode())
        if total >= megabytes * 1e6:
            break
    return sample


def reading(folder: Path, sample: list[Document]) -> Iterator[tuple[str, Callable[[], object]]]:
    lines, table, wet, pages = (folder / name for name in ("a.jsonl.zst", "a.parquet", "a.wet.gz", "a.warc.gz"))
    yield "write jsonl.zst", lambda: write_documents(lines, sample)
    yield "read jsonl.zst", lambda: consume(read(lines))
    yield "read_documents", lambda: read_documents(lines)
    write_parquet(table, sample)
    yield "read parquet", lambda: consume(read(table))
    wet.write_bytes(gzip.compress(b"".join(conversion(document) for document in sample)))
    yield "read wet.gz", lambda: consume(read(wet))
    pages.write_bytes(gzip.compress(b"".join(response(document) for document in sample[:PAGES])))
    yield "read warc.gz of html", lambda: consume(read(pages))


def cleaning(sample: list[Document]) -> Iterator[tuple[str, Callable[[], object]]]:
    for stage in (Github(licenses=()), Arxiv(), Wikipedia(), Books(), Pii()):
        yield f"stage {stage.name}", lambda stage=stage: [stage.judge_one(document) for document in sample]


def consume(found: Iterator[Document]) -> None:
    for _ in found:
        pass


def write_parquet(path: Path, sample: list[Document]) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"text": [document.text for document in sample], "id": [document.id for document in sample]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def conversion(document: Document) -> bytes:
    body = document.text.encode()
    head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:{document.id}>\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


def response(document: Document) -> bytes:
    paragraphs = "".join(f"<p>{html.escape(part)}</p>\n" for part in document.text[:20_000].split("\n\n"))
    markup = f"<html><body><nav>Home</nav><article>{paragraphs}</article><footer>About</footer></body></html>"
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + markup.encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{document.id}>\r\n"
    kind = "Content-Type: application/http; msgtype=response\r\n"
    return f"{head}{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


if __name__ == "__main__":
    main()
