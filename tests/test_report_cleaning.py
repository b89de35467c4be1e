"""The report of a cleaning: its numbers are the account's, and no document can act in it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from pipeline_stages import Copies, Mask, Short
from test_corpus_pipeline import Here
from test_report_page import Balance, visible_text

from isoflop.corpus.pipeline import CleanConfig, Source, Step, clean
from isoflop.report.cleaning import page, read_cleaning, write_cleaning_page
from isoflop.report.examples import diffs
from isoflop.report.flow import Reach, river
from isoflop.report.scales import data_size, percent

HOSTILE = "<script>alert('x')</script> & \x1b[31m\u202eevil <img src=http://x.test/y> secret </pre></details>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cleaning of documents, sources and reasons that are out to act."""
    root = tmp_path_factory.mktemp("report")
    texts = [f"{HOSTILE} number {n} {'and more ' * (n % 7)}" for n in range(60)] + ["short", "<b>"]
    records = [{"text": text, "source": f"<i>{n % 3}</i>", "id": f"<u>{n}"} for n, text in enumerate(texts)]
    (root / "raw.jsonl").write_text("\n".join(map(json.dumps, [*records, *records[:9]])))
    steps = (Step(Short(120)), Step(Copies()), Step(Mask(mask="<em>")), Step(Short(121), only=("*1*",)))
    clean(CleanConfig((Source(str(root / "raw.jsonl")),), steps, 1000), root / "out & <out>", pool=Here)
    write_cleaning_page(root / "out & <out>")
    return root / "out & <out>"


@pytest.fixture(scope="module")
def written(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_no_text_of_a_document_can_act(written: str) -> None:
    assert not re.search(r"<(script|img|b>secret|i>\d|u>\d|em>)", written)
    assert html.escape("<script>alert('x')</script>") in written
    assert "\\x1b[31m\\u{202e}evil" in written
    assert not set("\x1b\u202e") & set(written)
    balance = Balance()
    balance.feed(written)
    assert balance.open == []


def test_the_page_needs_nothing_else(written: str) -> None:
    assert not re.search(r"<(link|iframe|object|embed|base)|@import|<[^>]*\ssrc=", written)
    assert all(target.startswith("#") for target in re.findall(r'(?:href="|url\()([^")]*)', written))


def test_figures_are_those_of_the_account(folder: Path, written: str) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    said = visible_text(written)
    assert f"{percent(summary['kept']['bytes'], summary['read']['bytes'])} of the text stays" in said
    for label, account in summary["stages"].items():
        lost = account["received"]["bytes"] - account["kept"]["bytes"]
        row = re.search(rf"<tr><td>{label}</td>(.*?)</tr>", written)
        assert row is not None
        for figure in (f"{account['received']['documents']:,}", f"{account['edited']['documents']:,}", data_size(lost)):
            assert f"<td>{figure}</td>" in row[1]
        for reason, tally in account["reasons"].items():
            assert f"{reason} {tally['documents']:,} documents, {data_size(tally['bytes'])}" in said
    for group in summary["read"]["groups"]:
        assert group in said


def test_dropped_stand_beside_kept_and_edits_are_diffs(written: str) -> None:
    first = written[written.index("<h3>01-short</h3>") :]
    pair = first[first.index('<div class="pair">') : first.index("</pre></div></div>")]
    assert re.findall(r'class="card (\w+)"', pair) == ["dropped", "kept"]
    assert "<del>secret</del><ins>&lt;em&gt;</ins>" in written


def test_white_space_that_an_edit_took_is_seen() -> None:
    edited = {"treated": "edited", "place": "a:1", "source": "", "detail": "", "segments": [["=", "a"], ["-", " \n"]]}
    assert "a<del>␣↵\n</del>" in diffs([edited])


def test_the_river_is_as_wide_as_the_bytes() -> None:
    drawn = river("a", [Reach("x", "", 1.0, 0.5, "half", ""), Reach("y", "", 0.5, 0.5, "", "nothing")], "b")
    widths = [tuple(map(float, m)) for m in re.findall(r'water" d="M0 0H([\d.]+)C.*?([\d.]+) 100H0Z', drawn)]
    assert widths == [(86.0, 43.0), (43.0, 43.0)]
    assert drawn.count('class="gone"') == 1, "nothing leaves where nothing is lost"


def test_the_same_folder_gives_the_same_page(folder: Path, written: str) -> None:
    assert page(read_cleaning(folder)) == written


def test_an_unfinished_cleaning_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished cleaning"):
        read_cleaning(tmp_path)


@pytest.mark.parametrize(
    ("bytes_", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_960, "1 MB"), (41_234_567, "41.2 MB")]
)
def test_sizes_read_as_people_say_them(bytes_: int, said: str) -> None:
    assert data_size(bytes_) == said


@pytest.mark.parametrize(
    ("part", "said"), [(0, "0%"), (1, "<0.01%"), (15, "0.015%"), (5432, "5.43%"), (43210, "43.2%"), (10**5, "100.0%")]
)
def test_shares_tell_little_from_nothing(part: int, said: str) -> None:
    assert percent(part, 10**5 if part != 1 else 10**6) == said
