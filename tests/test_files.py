"""Files that are there whole or not at all, however many write the same one at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from isoflop import files
from isoflop.corpus.dedup import runs
from isoflop.corpus.document import Document
from isoflop.corpus.writer import read_documents, write_documents

DOCUMENTS = [Document(f"text {number} " * 40, f"p:{number}", f"p:{number}", "s") for number in range(30)]
NUMBERS = np.arange(20_000)


def write_folder(path: Path) -> None:
    files.write_folder(path, lambda folder: files.write_json(folder / "a.json", NUMBERS.tolist()))


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda path: files.write_json(path, NUMBERS.tolist()), lambda path: json.loads(path.read_text())),
        (lambda path: write_documents(path, DOCUMENTS), read_documents),
        (lambda path: runs.save(path, NUMBERS), lambda path: np.load(path).tolist()),
        (write_folder, lambda path: json.loads((path / "a.json").read_text())),
    ],
    ids=["json", "documents", "array", "folder"],
)
def test_two_at_work_on_one_file_do_not_meet(tmp_path, write, read) -> None:
    path = tmp_path / "shard.jsonl.zst"
    write(path)
    whole = read(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write(path), range(24)))
    assert read(path) == whole
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("enough")

    write_folder(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="enough"):
        files.write_folder(tmp_path / "whole", fail)
    assert [each.name for each in tmp_path.iterdir()] == ["whole"]
    assert [each.name for each in (tmp_path / "whole").iterdir()] == ["a.json"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "deep" / "kept.json"
    half = files.temporary_for(kept.with_name(".folder"))
    half.mkdir(parents=True)
    (half / "a").write_text("half")
    files.write_json(kept, 1)
    files.temporary_for(kept).write_text("half")
    files.remove_temporaries(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
    files.discard(tmp_path / "deep")
    assert not list(tmp_path.iterdir())
    files.discard(tmp_path / "deep")
