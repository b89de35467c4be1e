import gzip
import json
import tracemalloc

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isoflop.corpus import CorpusError, Reading, documents, read
from isoflop.corpus.formats import html

ARTICLE = "It was the best of times, it was the worst of times, it was the age of wisdom and of foolishness. " * 4
PAGE = (
    "<html><head><title>A tale</title></head><body><nav>Home | About</nav><article><h1>A tale</h1>"
    f"<p>{ARTICLE}</p><p>Über {ARTICLE}</p></article><footer>© 2024</footer></body></html>"
)


def warc_record(kind, body, url="http://example.org/a", **headers):
    lines = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:uuid:{len(body)}-{url}>", "WARC-Target-URI": url}
    lines |= {"WARC-Date": "2024-05-01T00:00:00Z", **headers, "Content-Length": len(body)}
    return "".join(["WARC/1.0\r\n", *(f"{k}: {v}\r\n" for k, v in lines.items()), "\r\n"]).encode() + body + b"\r\n\r\n"


def response(content, url="http://example.org/a", status="200 OK", content_type="text/html", **headers):
    lines = "".join(f"{k}: {v}\r\n" for k, v in {"Content-Type": content_type, **headers}.items())
    body = f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content
    return warc_record("response", body, url, **{"Content-Type": "application/http; msgtype=response"})


def archive():
    return [
        warc_record("warcinfo", b"software: test\r\n"),
        warc_record("request", b"GET / HTTP/1.1\r\n\r\n", **{"Content-Type": "application/http; msgtype=request"}),
        response(PAGE.encode(), "http://example.org/1", content_type="text/html; charset=utf-8"),
        response(PAGE.encode("cp1252"), "http://example.org/2", content_type="text/html; charset=ISO-8859-1"),
        response(gzip.compress(PAGE.encode()), "http://example.org/3", **{"Content-Encoding": "gzip"}),
        response(PAGE.encode(), status="404 Not Found"),
        response(b"\x89PNG\0\0", content_type="image/png"),
        response(b"<html></html>", "http://example.org/empty"),
    ]


def read_all(path, **kwargs):
    reading = Reading(**kwargs)
    return list(read(path, reading)), reading


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_html_pages_of_a_web_archive_are_its_documents(tmp_path, suffix):
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    (tmp_path / f"crawl-001.warc{suffix}").write_bytes(b"".join(pack(record) for record in archive()))
    found, reading = read_all(tmp_path)
    assert [d.place for d in found] == [f"crawl-001.warc{suffix}:{n}" for n in (3, 4, 5)]
    assert [d.url for d in found] == [f"http://example.org/{n}" for n in (1, 2, 3)]
    assert len({d.text for d in found}) == 1
    assert ARTICLE.strip() in found[0].text
    assert "Über" in found[0].text
    assert "Home | About" not in found[0].text
    assert found[0].id.endswith("http://example.org/1")
    assert found[0].source == "crawl"
    assert found[0].extra == {"date": "2024-05-01T00:00:00Z"}
    assert (reading.records, reading.bad, reading.empty) == (4, 0, 1)


def test_the_texts_of_a_wet_file_are_taken_as_they_are(tmp_path):
    texts = ["  one\n", " \n", "", "two", "žluť"]
    data = b"".join(
        warc_record("conversion", text.encode(), f"http://a.org/{n}", **{"WARC-Identified-Content-Language": "eng"})
        for n, text in enumerate(texts)
    )
    (tmp_path / "a.warc.wet.gz").write_bytes(gzip.compress(data))
    found, reading = read_all(tmp_path)
    assert [d.text for d in found] == ["  one\n", " \n", "two", "žluť"]
    assert [d.url[-1] for d in found] == ["0", "1", "3", "4"]
    assert reading.empty == 1
    assert found[0].extra["identified_language"] == "eng"


def test_pages_can_be_left_for_a_stage_to_extract(tmp_path):
    (tmp_path / "a.html").write_text(PAGE, encoding="utf-8")
    (tmp_path / "b.warc").write_bytes(b"".join(archive()))
    found, _ = read_all(tmp_path, extract_html=False)
    assert [d.text for d in found] == [PAGE] * 4 + ["<html></html>"]
    assert all(d.extra["format"] == "html" for d in found)


@pytest.mark.parametrize("cut", [3, 40, 300])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_web_archive_that_is_cut_short_is_an_error(tmp_path, cut, suffix):
    data = b"".join(gzip.compress(record) if suffix else record for record in archive())
    (tmp_path / f"a.warc{suffix}").write_bytes(data[:-cut])
    with pytest.raises(CorpusError, match="cut short|no web archive after record"):
        read_all(tmp_path)


def test_a_compressed_page_that_is_a_bomb_is_one_bad_record(tmp_path):
    bomb = response(gzip.compress(b"7" * (100 << 20)), **{"Content-Encoding": "gzip"})
    (tmp_path / "a.warc").write_bytes(bomb + b"".join(archive()))
    tracemalloc.start()
    found, reading = read_all(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 3
    assert reading.places == ["a.warc:1: a page of more than 16 MiB"]
    assert peak < 100 << 20


def test_a_page_that_nobody_can_extract_is_one_bad_record(tmp_path):
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.html").write_text("<i>" * (html.MOST_TAGS + 1))
    with (tmp_path / "c.htm").open("wb") as file:
        file.truncate(html.LONGEST_PAGE + 1)
    found, reading = read_all(tmp_path)
    assert [d.place for d in found] == ["a.html:1"]
    assert [place[:7] for place in reading.places] == ["b.html:", "c.htm:1"]


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        ("Žluť".encode(), "iso-8859-1", "Žluť"),
        ("Žluť".encode("cp1250"), "windows-1250", "Žluť"),
        (b'<meta charset="utf-16">caf\xe9 ', "", '<meta charset="utf-16">café '),
        (b'<meta charset="koi8-r">' + "Мир".encode("koi8-r"), "", '<meta charset="koi8-r">Мир'),
        ("“x”".encode("cp1252"), "iso-8859-1", "“x”"),
        ("中文".encode("gb18030"), "gb2312", "中文"),
        ("x".encode("utf-16"), "", "x"),
        (b"a\xff\x81", "punycode", "aÿ\ufffd"),
        (b"a\0b", "", "ab"),
        (b"\xe9", "no such set", "é"),
    ],
)
def test_bytes_of_a_page_become_characters_as_in_a_browser(data, charset, expected):
    assert html.characters(data, charset) == expected


@given(st.binary(max_size=300), st.text(max_size=10) | st.sampled_from(["idna", "utf-7", "rot13", "hex", "utf-16"]))
def test_any_bytes_become_characters(data, charset):
    html.characters(data, charset).encode("utf-8")


def test_columns_of_a_parquet_file_become_fields(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    import datetime
    import decimal

    columns = {
        "text": ["one", "", None, "zwei"],
        "id": [7, 8, 9, 10],
        "lang": ["en", "en", "en", "de"],
        "score": [0.5, 1.0, None, 2.0],
        "when": [datetime.datetime(2024, 5, 1)] * 4,
        "price": [decimal.Decimal("1.50")] * 4,
        "tags": [["a", "b"], [], None, ["c"]],
        "meta": [{"stars": 3, "path": "a/b.py"}] * 4,
        "image": [b"\x89PNG"] * 4,
        "embedding": [[0.1, 0.2]] * 4,
    }
    pq.write_table(pa.table(columns), tmp_path / "web-00001.parquet", row_group_size=3)
    found, reading = read_all(tmp_path)
    assert [(d.text, d.id, d.language, d.source) for d in found] == [
        ("one", "7", "en", "web"),
        ("zwei", "10", "de", "web"),
    ]
    assert (reading.records, reading.bad, reading.empty) == (4, 1, 1)
    assert reading.places == ['web-00001.parquet:3: "text" is not a string but NoneType']
    assert found[0].extra == {
        "score": 0.5,
        "when": "2024-05-01 00:00:00",
        "price": "1.50",
        "tags": ["a", "b"],
        "meta": {"stars": 3, "path": "a/b.py"},
    }
    assert reading.disk_bytes_read == reading.disk_bytes > 0


def test_a_small_parquet_file_that_repeats_a_huge_value_costs_the_memory_of_one(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    value = "7" * (4 << 20)
    indices, values = pa.array([0] * 300, pa.int32()), pa.array([value])
    table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, values), "n": range(300)})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() - before + len(d.text) for d in read(tmp_path))
    assert peak < 64 << 20


def test_a_string_that_is_not_utf8_in_a_parquet_file_is_one_bad_record(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    broken = pa.array([b"good", b"\xff", b"too"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    found, reading = read_all(tmp_path)
    assert [d.text for d in found] == ["good", "too"]
    assert reading.places[0].startswith('a.parquet:2: "text" cannot be decoded')


def test_a_parquet_file_without_texts_or_damaged_is_an_error(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["x"]}), path)
    with pytest.raises(CorpusError, match='no column "text" of strings'):
        read_all(path)
    pq.write_table(pa.table({"text": ["x" * 1000]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=r"a\.parquet is damaged or no parquet file"):
        read_all(path)


def parquet_bytes():
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["one", "two", "three"] * 9, "id": range(27)}), sink, row_group_size=10)
    return sink.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def samples():
    lines = "".join(json.dumps({"text": f"t{n}", "id": n}) + "\n" for n in range(30)).encode()
    warc = b"".join(warc_record("conversion", f"text {n}".encode()) for n in range(5))
    return {
        "a.jsonl": lines,
        "a.jsonl.zst": zstandard.compress(lines),
        "a.jsonl.gz": gzip.compress(lines),
        "a.txt": b"some text\n\n" * 20,
        "a.parquet": parquet_bytes(),
        "a.warc": warc + response(b"<p>x</p>"),
        "a.wet.gz": gzip.compress(warc),
        "a.html": PAGE.encode(),
    }


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_broken_bytes_give_documents_or_a_sentence(samples, tmp_path, data):
    name = data.draw(st.sampled_from(sorted(samples)))
    broken = bytearray(samples[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(broken)))
        broken[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    folder = tmp_path / "fuzz"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    (folder / name).write_bytes(broken)
    reading = Reading()
    try:
        for document in read(folder, reading):
            assert document.text.encode("utf-8")
            assert document.place.startswith(name)
    except CorpusError as error:
        assert str(folder) in str(error)  # noqa: PT017
    assert reading.bad + reading.empty <= reading.records


def test_a_data_set_is_streamed_with_its_fields(tmp_path, monkeypatch):
    for name, value in {"HF_HUB_OFFLINE": "1", "USE_TORCH": "0", "USE_TF": "0", "USE_JAX": "0"}.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("datasets")
    for part in range(2):
        lines = [{"content": f"text {part} {n}", "id": f"{part}{n}", "stars": n} for n in range(3)]
        (tmp_path / f"part{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    reading = Reading()
    found = list(documents(f"hf:json?data_files={tmp_path}/*.jsonl&text=content", reading))
    assert [d.text for d in found] == [f"text {part} {n}" for part in range(2) for n in range(3)]
    assert found[1] == ("text 0 1", "hf:json:2", "01", "json", "", "", "", {"stars": 1})
    assert reading.records == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "does not name a data set"),
        ("hf:json?files=x", "with any of config, split"),
        ("hf:pandas?data_files=x.pkl", "can run code"),
        ("hf:json?data_files=/nowhere/x.jsonl", "cannot open hf:json.*check its name"),
    ],
)
def test_a_data_set_that_cannot_be_read_says_why(name, message):
    pytest.importorskip("datasets")
    with pytest.raises(CorpusError, match=message):
        list(documents(name))


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r'the package pyarrow is needed .*pip install "isoflop\[corpus\]"'):
        read_all(tmp_path)
