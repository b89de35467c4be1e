import json

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus import CorpusError, Document, read, streams
from isoflop.corpus.writer import read_documents, stream_documents, write_documents

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(
    st.builds(Document, *[st.text()] * 7, st.dictionaries(st.text(max_size=9), JSON, max_size=4)), max_size=5
)


@settings(max_examples=60)
@given(DOCUMENTS)
def test_every_field_of_every_document_survives_the_file(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("shard") / "0.jsonl.zst"
    write_documents(path, documents)
    first = path.read_bytes()
    assert read_documents(path) == documents
    write_documents(path, read_documents(path))
    assert path.read_bytes() == first


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    write_documents(path, [Document("t", "p", extra={"a": [float("nan"), 1.5], "b": {"c": float("inf")}})])
    assert read_documents(path)[0].extra == {"a": [None, 1.5], "b": {"c": None}}
    line = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    json.loads(line, parse_constant=pytest.fail)


def test_the_readers_of_corpora_give_back_the_original_place_and_id(tmp_path):
    documents = [Document("text", "web/a.jsonl.zst:17", "id-7", "web", "en", "MIT", "http://x.org", {"score": 3})]
    write_documents(tmp_path / "a.jsonl.zst", documents)
    assert list(read(tmp_path)) == documents


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl.zst"
    write_documents(path, [Document("old", "p")])

    def broken():
        yield Document("new", "p")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_documents(path, broken())
    monkeypatch.setattr(streams, "LONGEST_LINE", 100)
    with pytest.raises(CorpusError, match="p:9 is longer than"):
        write_documents(path, [Document("x" * 100, "p:9")])
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl.zst"]
    assert read_documents(path) == [Document("old", "p")]


def test_an_empty_document_is_kept_as_it_is_and_no_documents_are_an_empty_file(tmp_path):
    write_documents(tmp_path / "a.jsonl.zst", [Document("", "p"), Document(" \n", "q"), Document("x", "r")])
    assert [document.text for document in stream_documents(tmp_path / "a.jsonl.zst")] == ["", " \n", "x"]
    write_documents(tmp_path / "b.jsonl.zst", [])
    assert read_documents(tmp_path / "b.jsonl.zst") == []


def test_a_file_that_is_cut_or_not_ours_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    write_documents(path, [Document("text" * 100, "p")])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorpusError, match="damaged or cut short"):
        read_documents(path)
    path.write_bytes(zstandard.compress(b'{"isoflop_place": 3, "text": ""}\n'))
    with pytest.raises(CorpusError, match=r"a\.jsonl\.zst:1 is not a document that isoflop wrote"):
        read_documents(path)
