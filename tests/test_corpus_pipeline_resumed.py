"""A cleaning that goes on notices what changed, or was deleted, in the meantime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pipeline_stages import configured, write_corpus
from test_corpus_pipeline import Here, results

from isoflop.corpus import CorpusError
from isoflop.corpus.dedup.decontaminate import Decontaminate
from isoflop.corpus.pipeline import CleanConfig, Job, Source, clean
from isoflop.corpus.pipeline.config import Step
from isoflop.corpus.rules.c4 import C4
from isoflop.corpus.rules.url import Url
from isoflop.corpus.stages import STAGES, stage_class
from isoflop.interrupt import Interrupted

WORDS_THAT_ARE_NO_PATHS = {
    "stop_words",
    "stop_word_languages",
    "languages",
    "end_marks",
    "spare",
    "keep",
    "apparatus",
    "sites",
    "licenses",
    "extensions",
    "kinds",
    "placeholder",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "raw")


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    clean(configured(corpus), out, pool=Here)
    return out


def stopped(corpus: Path, out: Path, after: int) -> Job:
    with pytest.raises(Interrupted):
        clean(configured(corpus), out, pool=lambda job: Here(job, stop_after=after))
    return Job(configured(corpus), out)


@pytest.mark.parametrize("number", [0, 1])
def test_documents_deleted_by_hand_are_made_again_while_they_can_be(
    corpus: Path, done: Path, tmp_path: Path, number: int
) -> None:
    job = stopped(corpus, tmp_path / "out", 7)  # in the first pass: four stages are prepared, three shards are through
    left = sorted(job.shard(number, 0).parent.iterdir())
    assert len(left) > 1
    left[1].unlink()
    clean(configured(corpus), tmp_path / "out", pool=Here)
    assert results(tmp_path / "out") == results(done)


def test_documents_deleted_by_hand_that_cannot_be_made_again_are_missed(
    corpus: Path, done: Path, tmp_path: Path
) -> None:
    shards = len(list((done / "work" / "pass-00" / "accounts").iterdir()))
    job = stopped(corpus, tmp_path / "out", 4 + shards + 1 + 2)  # in the second pass
    missing = sorted(job.shard(1, 0).parent.iterdir())[-1]
    missing.unlink()
    with pytest.raises(CorpusError, match=rf"pass-00.*is gone, with .* documents .*remove {job.work}"):
        clean(configured(corpus), tmp_path / "out", pool=Here)


def test_a_kill_while_documents_are_removed_costs_nothing(
    corpus: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, **_: object) -> None:
        next(iter(sorted(folder.iterdir()))).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("isoflop.files.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        clean(configured(corpus), tmp_path / "out", pool=Here)
    monkeypatch.undo()
    clean(configured(corpus), tmp_path / "out", pool=Here)
    assert results(tmp_path / "out") == results(done)


def test_a_file_that_a_stage_names_and_that_changed_is_refused_by_name(tmp_path: Path) -> None:
    raw = write_corpus(tmp_path / "raw")
    names = ("bad.txt", "domains.txt")
    bad, domains = (tmp_path / name for name in names)
    bad.write_text("secret\n")
    domains.write_text("example.org\n")
    items = tmp_path / "exam"
    items.mkdir()
    (items / "a.jsonl").write_text('{"text": "balan komer risig tuvot balan komer risig tuvot balan"}\n')
    steps = (Step(Url(domains=str(domains))), Step(C4(bad_words=str(bad))), Step(Decontaminate((str(items),), n=8)))
    config = CleanConfig((Source(str(raw)),), steps, shard_bytes=2000)
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        clean(config, out, pool=lambda job: Here(job, stop_after=4))

    def refused(path: Path, change: Callable[[], object], said: str) -> None:
        before = path.read_bytes()
        change()
        with pytest.raises(ValueError, match=said):
            clean(config, out, pool=Here)
        path.write_bytes(before)

    refused(bad, lambda: bad.write_text("other\n"), rf"stage\[2\]\.bad_words \({bad}\) holds something else now")
    refused(domains, domains.unlink, rf"stage\[1\]\.domains \({domains}\) is gone")
    item = items / "a.jsonl"
    refused(item, lambda: item.rename(items / "b.jsonl"), r"stage\[3\]\.benchmarks .* holds something else now")
    (items / "b.jsonl").unlink()
    with pytest.raises(CorpusError, match="nothing is left"):  # it goes on, to an end that has nothing to do with this
        clean(config, out, pool=Here)
    refused(bad, lambda: bad.write_text("other\n"), r"stage\[2\]\.bad_words")


def test_every_stage_says_which_of_its_fields_are_paths() -> None:
    for name in STAGES:
        stage = stage_class(name)
        words = {f.name for f in fields(stage) if str(f.type) in ("str", "tuple[str, ...]")}
        assert set(stage.inputs) <= words, name
        assert words - set(stage.inputs) <= WORDS_THAT_ARE_NO_PATHS, f"{name}: is a new field a path?"


def test_a_damaged_file_does_not_end_a_cleaning_that_lets_it_pass(corpus: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for file in corpus.iterdir():
        (raw / file.name).write_bytes(file.read_bytes())
    (raw / "zeros.jsonl").write_bytes(b"\0" * 600)
    (raw / "outside.jsonl").symlink_to(corpus / "web.jsonl")
    config = configured(raw)
    with pytest.raises(CorpusError, match=r"zeros\.jsonl is not text.*1\.0% is let pass \(bad_fraction\)"):
        clean(config, tmp_path / "refused", pool=Here)
    summary = clean(replace(config, bad_fraction=0.05), tmp_path / "out", pool=Here)
    read = summary["read"]
    assert (read["documents"], read["damaged"], read["damaged_bytes"], read["links"]) == (120, 1, 600, 1)
    assert "zeros.jsonl:1: is not text" in (tmp_path / "out" / "quarantine.jsonl").read_text()
