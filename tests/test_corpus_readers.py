import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from isoflop.corpus import CorpusError, Reading, documents, read, streams
from isoflop.corpus.document import RecordError
from isoflop.corpus.record import from_record, parse

SHARED = Path(__file__).resolve().parents[2] / "shared" / "corpus"


def json_lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def texts(path, **settings):
    return [document.text for document in read(path, Reading(**settings))]


def test_every_suffix_gives_the_same_texts_with_their_places(tmp_path):
    data = json_lines(["one", "zwei"])
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(data))
    (tmp_path / "d.txt").write_bytes(b"three\n")
    (tmp_path / "e.md").write_bytes(b"# four\n")
    (tmp_path / "f.csv").write_bytes(b"not,read\n")
    found = list(documents(str(tmp_path)))
    names = ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst")
    expected = [(text, f"{name}:{n}") for name in names for n, text in ((1, "one"), (2, "zwei"))]
    assert [(d.text, d.place) for d in found] == [*expected, ("three\n", "d.txt:1"), ("# four\n", "e.md:1")]
    assert all(document.id == document.place for document in found)


def test_the_order_is_that_of_relative_paths_however_they_were_made(tmp_path):
    for name in ("b/z.txt", "a.txt", "b/a/c.txt", "b/a.txt", "B.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["B.txt", "a.txt", "b/a/c.txt", "b/a.txt", "b/z.txt"]


def test_links_out_of_the_folder_and_hidden_names_are_not_followed(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside / "real", inside / ".git"):
        folder.mkdir(parents=True)
        (folder / "text.txt").write_text(folder.name)
    (inside / "linked.txt").symlink_to(outside / "text.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (inside / "within.txt").symlink_to(inside / "real" / "text.txt")
    reading = Reading()
    assert [d.place for d in read(inside, reading)] == ["real/text.txt:1", "within.txt:1"]
    assert reading.links == 2, "linked.txt and folder lead out"


def test_names_that_are_not_utf8_are_spelled_out(tmp_path):
    folder = os.fsencode(tmp_path) + b"/b\xfccher"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/caf\xe9.txt")).write_text("text")
    (document,) = read(tmp_path)
    assert (document.place, document.source) == ("b\\xfccher/caf\\xe9.txt:1", "b\\xfccher")


def test_a_document_of_ours_whose_names_utf8_cannot_spell_is_a_bad_record(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "isoflop_place": "\\ud800"}\n{"text": "b", "isoflop_place": "p"}\n'
    )
    assert [document.text for document in read(tmp_path)] == ["b"]


def test_bad_records_are_quarantined_with_place_and_reason(tmp_path):
    good = json_lines(["good"])
    bad = [b'{"text": ', b'{"content": "x"}', b'{"text": 3}', b'["text"]', b'{"text": "\xff"}']
    bad += [b'{"text": "\\ud800"}', b"[" * 100_000, b"null"]
    (tmp_path / "a.jsonl").write_bytes(good + b"\n".join(bad) + b"\n\n" + json_lines(["", "also good"]))
    reading = Reading(places_kept=6)
    assert [d.place for d in read(tmp_path, reading)] == ["a.jsonl:1", "a.jsonl:12"]
    assert (reading.records, reading.bad, reading.empty) == (11, 8, 1)
    reasons = ["broken JSON", 'no field "text"', "not a string but int", 'no field "text"', "not UTF-8"]
    reasons.append("lone surrogate")
    assert len(reading.places) == 6
    for number, (place, reason) in enumerate(zip(reading.places, reasons, strict=True), 2):
        assert place.startswith(f"a.jsonl:{number}: ")
        assert reason in place


def test_more_than_the_stated_fraction_of_bad_records_refuses_the_corpus(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(json_lines(["good"] * 89) + b"broken\n" * 11)
    with pytest.raises(CorpusError, match=r"11 of 100 records in .* more than the 1\.0%.*a\.jsonl:90: broken JSON"):
        texts(tmp_path)
    assert len(texts(tmp_path, bad_fraction=0.11)) == 89
    assert len(texts(tmp_path, bad_minimum=11)) == 89


@pytest.mark.parametrize("suffix", ["zst", "gz"])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1])
def test_a_truncated_file_is_an_error_and_not_a_shorter_corpus(tmp_path, suffix, kept):
    data = json_lines([os.urandom(50).hex() for _ in range(2000)])
    packed = zstandard.compress(data) if suffix == "zst" else gzip.compress(data)
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(packed[: int(len(packed) * kept)])
    with pytest.raises(CorpusError, match=r"damaged or cut short.*fetch or compress it again"):
        texts(path)


@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_a_damaged_or_misnamed_compressed_file_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(json_lines(["plain text under a wrong name"]))
    with pytest.raises(CorpusError, match="damaged or cut short"):
        texts(path)


def test_zstd_with_many_frames_and_the_longest_window_is_read_whole(tmp_path):
    settings = zstandard.ZstdCompressionParameters(window_log=zstandard.WINDOWLOG_MAX)
    long_window = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    data = json_lines(["one"]) + b'{"text": "ac'
    packed = long_window.compress(data) + long_window.flush() + skippable + zstandard.compress(b'ross"}\n')
    (tmp_path / "a.jsonl.zst").write_bytes(packed)
    assert texts(tmp_path) == ["one", "across"]


def test_a_decompression_bomb_ends_at_the_longest_line(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_LINE", 4 << 20)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(b"7" * (64 << 20)))
    taken = []
    original = streams._unzstd
    monkeypatch.setattr(streams, "_unzstd", lambda file: (taken.append(len(b)) or b for b in original(file)))
    with pytest.raises(CorpusError, match=r"line of more than 4 MiB.*bomb"):
        texts(tmp_path)
    assert sum(taken) <= 6 << 20
    assert max(taken) <= 1 << 20


def test_the_densest_zstd_cannot_fill_the_memory_in_one_step(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_LINE", 4 << 20)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(b"7" * (320 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match="bomb"):
            texts(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20


@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_a_damaged_file_among_many_is_set_aside_where_it_breaks(tmp_path, suffix):
    rows = [os.urandom(50).hex() for _ in range(10_000)]
    pack = zstandard.compress if suffix == "zst" else gzip.compress
    whole = pack(json_lines(rows))
    for name in "abd":
        (tmp_path / f"{name}.jsonl.{suffix}").write_bytes(whole)
    cut = tmp_path / f"c.jsonl.{suffix}"
    cut.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "e.txt").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "f.jsonl").write_bytes(b"\0" * 100)
    reading = Reading(bad_fraction=0.2)
    found = list(read(tmp_path, reading))
    kept = len(found) - 3 * len(rows)
    assert 100 < kept < len(rows)
    assert [d.text for d in found if d.place.startswith("c.")] == rows[:kept]
    assert [d.text for d in found if d.place.startswith("d.")] == rows
    assert (reading.damaged, reading.damaged_bytes) == (2, cut.stat().st_size + 100)
    assert reading.bad == 1, "a text file is one document, and one bad record if it is no text"
    assert reading.places[0].startswith(f"{cut.name}:{kept + 1}: is damaged or cut short")
    assert reading.places[1].startswith("e.txt:1: is not text, it holds NUL bytes")
    assert reading.places[2].startswith("f.jsonl:1: is not text, it holds NUL bytes")
    assert reading.disk_bytes_read == reading.disk_bytes


def test_damaged_files_beyond_the_stated_fraction_refuse_the_corpus_at_once(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\0" * 1000)
    (tmp_path / "b.jsonl").write_bytes(json_lines(["x" * 900] * 20))
    with pytest.raises(CorpusError, match=r"a\.jsonl is not text.*5\.\d% of the corpus' bytes.*1\.0% is let pass"):
        next(read(tmp_path))
    assert len(texts(tmp_path, bad_fraction=0.06)) == 20


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"ab\0cd", r"holds no document: 1 records, 1 bad.*a\.txt:1: is not text, it holds NUL bytes"),
        ("a.jsonl", b"\x7fELF\0\0\0", r"a\.jsonl is not text"),
        ("a.txt", "text".encode("utf-16"), "UTF-16.*convert"),
        ("a.txt", b"caf\xe9", r"holds no document: 1 records, 1 bad.*a\.txt:1: not UTF-8 at byte 3"),
        ("a.jsonl", b"", "holds no document: 0 records"),
        ("a.txt", b" \n\n", "holds no document"),
        ("a.csv", b"a,b", r"cannot tell what .*a\.csv is.*\.jsonl, .*\.txt, \.md, \.parquet, \.warc"),
    ],
)
def test_a_file_that_cannot_be_a_corpus_says_why(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        texts(tmp_path / name)


def test_a_missing_path_and_a_folder_with_nothing_to_read_fail_before_iterating(tmp_path):
    with pytest.raises(CorpusError, match=r"no file or folder .*nowhere.*\.jsonl\.zst"):
        read(tmp_path / "nowhere")
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"no file to read in the folder .*\.txt, \.md"):
        read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("secret")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(CorpusError, match="Permission denied"):
        texts(tmp_path)


def test_a_long_text_is_cut_at_blank_lines_and_loses_nothing(tmp_path):
    text = "".join(f"{n} žluť {'x' * (n % 90)}\n" + "\n" * (n % 7 == 0) for n in range(20_000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found = list(read(tmp_path))
    assert "".join(d.text for d in found) == text
    assert [d.place for d in found[:2]] == ["a.txt:1", "a.txt:2"]
    assert all(d.text.endswith("\n\n") and 64 << 10 <= len(d.text.encode()) < 70_000 for d in found[:-1])


@given(st.text(alphabet="ab\n \r€𝄞", max_size=400) | st.text(alphabet="a€𝄞"), st.integers(1, 50))
def test_pieces_join_to_the_text_wherever_blocks_and_characters_end(text, block):
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "PIECE", 8)
        patch.setattr(streams, "LONGEST_PIECE", 24)
        found = list(streams.pieces(data[i : i + block] for i in range(0, len(data), block)))
        whole = list(streams.pieces([data]))
    assert found == whole
    assert "".join(piece.decode() for piece in found) == text
    assert all(0 < len(piece) <= 24 for piece in found)


@given(st.lists(st.binary(max_size=30)), st.integers(1, 20))
def test_lines_are_those_of_the_whole_wherever_blocks_end(parts, block):
    data = b"\n".join(parts)
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    blocks = (data[i : i + block] for i in range(0, len(data), block))
    assert list(streams.lines(Path("a"), blocks)) == expected


@given(st.binary(max_size=200) | st.text().map(lambda t: json.dumps({"text": t}).encode()))
def test_any_line_is_a_text_or_a_bad_record(line):
    try:
        text = from_record(parse(line), "a:1").text
    except RecordError:
        return
    assert text == json.loads(line)["text"]
    text.encode("utf-8")


def test_progress_counts_every_byte_on_disk(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 1000)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json_lines(["b"] * 100)))
    reading = Reading()
    assert len(list(read(tmp_path, reading))) == 101
    assert reading.disk_bytes_read == reading.disk_bytes == sum(f.stat().st_size for f in tmp_path.iterdir())


@pytest.mark.skipif(not SHARED.exists(), reason="no shared corpus")
def test_real_files_with_long_windows_are_read_without_loss():
    reading = Reading()
    found = list(read(SHARED / "heldout", reading))
    assert len(found) == reading.records > 500
    assert reading.bad == 0
