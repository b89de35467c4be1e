"""The pipeline: the same bytes however it is cut, run or killed, and an account that adds up."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_stages import Copies, Fails, Mask, Short, configured, write_corpus

from isoflop.corpus import CorpusError, documents
from isoflop.corpus.document import Document
from isoflop.corpus.pipeline import CleanConfig, Job, Source, Step, clean, tables
from isoflop.corpus.pipeline.account import Reservoir, draw_again, drawn
from isoflop.corpus.pipeline.cut import cut
from isoflop.corpus.pipeline.excerpts import edits, excerpt
from isoflop.corpus.pipeline.layout import Task, passes
from isoflop.corpus.pipeline.local import LocalPool, _start
from isoflop.corpus.pipeline.work import StageError, perform
from isoflop.interrupt import Interrupted

RESULTS = ("summary.json", "examples.json", "quarantine.jsonl", "clean.toml")


class Here:
    """Performs tasks in this process, in an order of its own."""

    def __init__(self, job: Job, seed: int = 0, stop_after: int | None = None) -> None:
        self.job, self.random, self.left = job, random.Random(seed), stop_after

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def run(self, tasks: list[Task], done: Callable[[int], None], stop: Callable[[], None]) -> None:
        for number, task in enumerate(self.random.sample(tasks, len(tasks)), 1):
            if self.left == 0:
                raise Interrupted("enough")
            self.left = None if self.left is None else self.left - 1
            perform(self.job, task)
            done(number)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "raw")


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus, cleaned without being disturbed."""
    out = tmp_path_factory.mktemp("done") / "out"
    clean(configured(corpus), out, pool=Here)
    return out


def results(out: Path) -> dict[str, bytes]:
    """The bytes of everything that must not differ between two cleanings."""
    files = [*sorted((out / "documents").iterdir()), *(out / name for name in RESULTS)]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def written(out: Path) -> int:
    """How many files there are in a cleaning's folder of work."""
    return sum(1 for _ in (out / "work").rglob("*.*"))


def kept(out: Path) -> list[str]:
    return [document.id for document in documents(out / "documents")]


def test_stages_do_what_they_say_in_their_order(corpus: Path, done: Path) -> None:
    seen: set[str] = set()
    expected = []
    for document in documents(corpus):
        if len(document.text) < 40 or document.text in seen:
            continue
        seen.add(document.text)
        text = document.text.replace("secret", "***") if document.source[0] == "w" else document.text
        expected.append((document.id, document.source, text))
    again = {text: True for _, _, text in expected}
    assert len(again) == len(expected), "the second comparison has nothing to do"
    assert [(d.id, d.source, d.text) for d in documents(done / "documents")] == expected


def test_the_account_adds_up(corpus: Path, done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert summary["read"]["documents"] == 120
    assert summary["read"]["bytes"] == sum(len(d.text.encode()) for d in documents(corpus))
    arriving = summary["read"]
    for account in summary["stages"].values():
        dropped = {unit: sum(t[unit] for t in account["reasons"].values()) for unit in ("documents", "bytes")}
        assert account["received"] == {unit: arriving[unit] for unit in ("documents", "bytes")}
        assert account["kept"]["documents"] == account["received"]["documents"] - dropped["documents"]
        lost = dropped["bytes"] + account["edited"]["bytes"]
        assert account["kept"]["bytes"] == account["received"]["bytes"] - lost
        for unit in ("documents", "bytes"):
            assert sum(tally[unit] for tally in account["groups"].values()) == account["kept"][unit]
        arriving = account["kept"]
    left = [len(d.text.encode()) for d in documents(done / "documents")]
    assert summary["kept"] == {"documents": len(left), "bytes": sum(left)}
    assert summary["stages"]["03-mask"]["judged"]["documents"] < summary["stages"]["03-mask"]["received"]["documents"]


def test_intermediate_documents_are_removed_unless_asked_for(corpus: Path, done: Path, tmp_path: Path) -> None:
    assert not list((done / "work").rglob("*.zst"))
    clean(configured(corpus), tmp_path / "kept", pool=Here, keep=True)
    assert {path.parent.parent.name for path in (tmp_path / "kept" / "work").rglob("*.zst")} == {
        "pass-00",
        "pass-01",
        "pass-02",
    }
    assert results(tmp_path / "kept") == results(done)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_processes_gives_the_same_bytes(corpus: Path, done: Path, tmp_path: Path, workers: int) -> None:
    clean(configured(corpus), tmp_path / "out", pool=lambda job: LocalPool(job, workers))
    assert results(tmp_path / "out") == results(done)


@pytest.mark.parametrize("shard_bytes", [400, 10**9])
def test_any_cut_gives_the_same_verdicts_and_examples(
    corpus: Path, done: Path, tmp_path: Path, shard_bytes: int
) -> None:
    clean(configured(corpus, shard_bytes=shard_bytes), tmp_path / "out", pool=Here)
    assert kept(tmp_path / "out") == kept(done)
    assert (tmp_path / "out" / "examples.json").read_bytes() == (done / "examples.json").read_bytes()
    theirs, ours = (json.loads((out / "summary.json").read_text()) for out in (tmp_path / "out", done))
    assert theirs | {"shards": 0} == ours | {"shards": 0}


def test_stopped_after_any_task_it_goes_on_to_the_same_bytes(corpus: Path, done: Path, tmp_path: Path) -> None:
    out, stops = tmp_path / "out", 0
    for after in (0, 1, 2, 3, 5, 8, 13):
        try:
            clean(configured(corpus), out, pool=lambda job, n=after: Here(job, seed=n, stop_after=n))
        except Interrupted:
            stops += 1
    clean(configured(corpus), out, pool=Here)
    assert stops >= 5
    assert results(out) == results(done)


def test_a_task_that_is_done_is_not_done_again(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        clean(configured(corpus), out, pool=lambda job: Here(job, stop_after=9))
    before = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*.json")}
    clean(configured(corpus), out, pool=Here)
    assert len(before) > 10
    assert all(path.stat().st_mtime_ns == moment for path, moment in before.items())


def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(corpus: Path, done: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "out", random.Random(7)
    script = [sys.executable, str(Path(__file__).parent / "pipeline_stages.py"), str(corpus), str(out)]
    for _ in range(2):
        process = subprocess.Popen(script, start_new_session=True)
        enough = written(out) + chance.randrange(4, 16)
        while written(out) < enough and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None, "done before it was killed"
        time.sleep(0.02 * chance.random())
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must follow it
        process.wait()
    subprocess.run(script, check=True, timeout=60)
    assert {**results(out), "clean.toml": b""} == {**results(done), "clean.toml": b""}


def test_ctrl_c_is_said_and_the_same_command_goes_on(corpus: Path, tmp_path: Path) -> None:
    class Pressed(Here):
        def run(self, tasks: list[Task], done: Callable[[int], None], stop: Callable[[], None]) -> None:
            signal.raise_signal(signal.SIGINT)
            stop()

    with pytest.raises(Interrupted, match="the same command goes on"):
        clean(configured(corpus), tmp_path / "out", pool=Pressed)


def test_ctrl_c_reaches_no_worker_that_still_starts(corpus: Path, tmp_path: Path) -> None:
    worker = _start(Job(configured(corpus), tmp_path), None)
    os.kill(worker.process.pid or 0, signal.SIGINT)
    worker.pipe.close()
    worker.process.join(60)
    assert worker.process.exitcode == 0


def test_a_stage_that_fails_is_named_with_its_document(corpus: Path, tmp_path: Path) -> None:
    culprit = next(d for d in documents(corpus) if "secret" in d.text)
    config = dataclasses.replace(configured(corpus), steps=(Step(Short()), Step(Fails(word="secret"))))
    with pytest.raises(StageError, match=r"stage 02-fails failed at the document \w+.jsonl:\d+: KeyError: 'secret'"):
        clean(config, tmp_path / "out", pool=lambda job: LocalPool(job, 1))
    one = dataclasses.replace(config, shard_bytes=10**9)
    with pytest.raises(StageError, match=f"the document {culprit.place}:"):
        clean(one, tmp_path / "one", pool=Here)


def test_a_process_that_dies_is_named_with_its_task(corpus: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(configured(corpus), steps=(Step(Fails(word="secret", kill=True)),))
    with pytest.raises(RuntimeError, match=r"a worker process ended by SIGKILL .* at shard 0 of pass 1"):
        clean(config, tmp_path / "out", pool=lambda job: LocalPool(job, 1))


def test_another_config_is_refused_with_the_field_that_differs(corpus: Path, done: Path) -> None:
    config = configured(corpus)
    for other, said in (
        (dataclasses.replace(config, seed=5), "seed was 0 and is now 5"),
        (dataclasses.replace(config, steps=config.steps[:3]), r"stage\[4\] was 'copies' and is now absent"),
        (
            dataclasses.replace(config, steps=(Step(Short(characters=41)), *config.steps[1:])),
            r"stage\[1\].characters was 40 and is now 41",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            clean(other, done, pool=Here)


def test_a_corpus_that_changed_while_it_was_cut_is_noticed(tmp_path: Path) -> None:
    raw = write_corpus(tmp_path / "raw")
    job = Job(configured(raw), tmp_path / "out")
    job.out.mkdir()

    def stop_once(seen: list[int] = []) -> None:  # noqa: B006
        seen.append(1)
        if len(seen) == 6:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        cut(job, lambda *_: None, stop_once)
    lines = (raw / "code.jsonl").read_text().splitlines(keepends=True)
    (raw / "code.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(CorpusError, match="has changed since"):
        cut(job, lambda *_: None, lambda: None)


def test_a_corpus_whose_records_say_something_else_has_changed_too(tmp_path: Path) -> None:
    raw = tmp_path / "a.jsonl"
    job = Job(configured(raw, shard_bytes=400), tmp_path / "out")
    job.out.mkdir()

    def said(score: int) -> None:
        raw.write_text("".join(json.dumps({"text": f"text {n}", "score": score}) + "\n" for n in range(100)))

    said(1)
    assert cut(job, lambda *_: None, lambda: None).shards > 10  # though all of the text would fit in two
    (job.pass_folder(0) / "complete.json").unlink()
    said(2)
    with pytest.raises(CorpusError, match="has changed since"):
        cut(job, lambda *_: None, lambda: None)


def test_nothing_left_is_said_with_the_stage_to_blame(corpus: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(configured(corpus), steps=(Step(Copies()), Step(Short(characters=10**6))))
    for _ in range(2):  # the second time from the summary
        with pytest.raises(CorpusError, match=r"nothing is left of 120 documents: 02-short dropped \d+ of them"):
            clean(config, tmp_path / "out", pool=Here)


def test_an_edit_that_leaves_nothing_drops_the_document(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"text": "secret"}\n{"text": "secret and more"}\n')
    config = CleanConfig((Source(str(tmp_path / "raw.jsonl")),), (Step(Mask(mask=" ")),))
    summary = clean(config, tmp_path / "out", pool=Here)
    assert summary["stages"]["01-mask"]["reasons"] == {"nothing left": {"documents": 1, "bytes": 6}}
    assert [d.text for d in documents(tmp_path / "out" / "documents")] == ["  and more"]


def test_a_folder_with_something_else_is_refused(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ValueError, match="not a cleaning"):
        clean(configured(corpus), tmp_path, pool=Here)
    assert (tmp_path / "thesis.tex").read_text() == "dear"
    with pytest.raises(ValueError, match="lies in the corpus"):
        clean(configured(corpus), corpus / "clean", pool=Here)
    monkeypatch.setenv("HOME", str(corpus.parent))
    with pytest.raises(ValueError, match="lies in the corpus"):
        clean(configured(Path("~") / corpus.name), corpus / "clean", pool=Here)
    assert not (corpus / "clean").exists()


def test_bad_records_are_set_aside_with_their_place(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"a document of some words, number {number}"}) for number in range(300)]
    lines[7] = '{"text": '
    (tmp_path / "raw.jsonl").write_text("\n".join(lines))
    config = CleanConfig((Source(str(tmp_path / "raw.jsonl")),), (Step(Short(1)),))
    summary = clean(config, tmp_path / "out", pool=Here)
    assert (summary["read"]["records"], summary["read"]["bad"], summary["kept"]["documents"]) == (300, 1, 299)
    assert "raw.jsonl:8" in (tmp_path / "out" / "quarantine.jsonl").read_text()


def test_a_sample_is_about_its_share_and_part_of_the_whole(corpus: Path, tmp_path: Path) -> None:
    ids = []
    for sample in (0.2, 0.5):
        config = dataclasses.replace(configured(corpus), sample=sample, steps=(Step(Short(1)),))
        summary = clean(config, tmp_path / str(sample), pool=Here)
        ids.append(set(kept(tmp_path / str(sample))))
        assert summary["read"]["documents"] + summary["read"]["beyond_sample"] == 120
    assert ids[0] < ids[1]
    assert 10 < len(ids[0]) < 40


def test_named_sources_name_their_documents(corpus: Path, tmp_path: Path) -> None:
    parts = (Source(str(corpus / "wiki.jsonl"), "encyclopedia"), Source(str(corpus / "web.jsonl"), "crawl"))
    config = CleanConfig(parts, (Step(Short(10**6), only=("crawl",)),))
    summary = clean(config, tmp_path / "out", pool=Here)
    assert summary["stages"]["01-short"]["groups"].keys() == {"encyclopedia"}


def test_passes_are_as_few_as_can_be() -> None:
    a, whole = Step(Short()), Step(Copies())
    assert [(p.judges, p.survey) for p in passes((a, a))] == [((0, 1), None)]
    assert [(p.judges, p.survey) for p in passes((whole, a))] == [((), 0), ((0, 1), None)]
    assert [(p.judges, p.survey) for p in passes((a, whole, a, whole))] == [((0,), 1), ((1, 2), 3), ((3,), None)]


def test_scopes_ask_any_field_of_a_document() -> None:
    document = Document("x", "p", "i", "arxiv-2020", "fr", extra={"domain": "math"})
    for patterns, taken in (
        ({"only": ("arxiv*",)}, True),
        ({"only": ("ArXiv*",)}, True),
        ({"only": ("wiki*",)}, False),
        ({"only": ("wiki*", "language=f?")}, True),
        ({"only": ("domain=math",), "exclude": ("arxiv-2020",)}, False),
        ({"exclude": ("domain=code", "nothing=?*")}, True),
        ({}, True),
    ):
        assert Step(Short(), **patterns).takes(document) is taken, patterns


def test_a_config_is_read_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in (Short, Mask, Copies):
        monkeypatch.setitem(tables.build_stage.__globals__["STAGES"], stage.name, f"pipeline_stages:{stage.__name__}")
    config = configured(Path("raw"), slow=0.5, seed=3)
    named = dataclasses.replace(config, corpus=(Source("a/", "one"), Source("b/", "two")))
    for each in (config, named):
        assert tables.from_table(tables.tomllib.loads(each.dumps())) == each
    for table, said in (
        ({"stages": []}, "unknown key 'stages'; did you mean"),
        ({"stage": [{"name": "shirt"}]}, "no cleaning stage 'shirt'; did you mean 'short'"),
        ({"stage": [{"name": "short", "charactres": 5}]}, r"stage\[1\] \(short\) has an unknown key 'charactres'"),
        ({"stage": [{"name": "short"}], "corpus": 5}, "must be a path"),
        ({"stage": [{"name": "short"}]}, "no corpus"),
        ({"corpus": "raw"}, "nothing to do"),
    ):
        with pytest.raises(ValueError, match=said):
            tables.from_table(table)


TEXTS = st.text(st.sampled_from("ab \n."), max_size=3000) | st.text(max_size=200)


@given(TEXTS, TEXTS)
def test_a_diff_is_short_and_tells_both_texts(before: str, after: str) -> None:
    segments = edits(before, after)
    assert sum(len(words) for _, words in segments) < 3500
    if not any(kind == "~" for kind, _ in segments) and sum(len(words) for _, words in segments) < 1500:
        assert "".join(words for kind, words in segments if kind in "=-") == before
        assert "".join(words for kind, words in segments if kind in "=+") == after


@given(TEXTS)
def test_an_excerpt_counts_what_it_leaves_out(text: str) -> None:
    segments = excerpt(text)
    assert sum(int(words) if kind == "~" else len(words) for kind, words in segments) == len(text)
    assert sum(len(words) for _, words in segments) < 1250


@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 5))
def test_a_draw_from_draws_is_the_draw_from_all(count: int, cut_at: int, limit: int) -> None:
    found = [Document(f"text {n}", f"place:{n}", str(n)) for n in range(count)]

    def draw(part: list[Document]) -> list[dict[str, Any]]:
        reservoir = Reservoir(limit, 1)
        for document in part:
            reservoir.offer("01-x", "dropped", document, "why")
        return drawn(reservoir)

    at_once = draw_again([draw(found)], limit)
    assert draw_again([draw(found[i : i + cut_at]) for i in range(0, count, cut_at)], limit) == at_once
    assert len(at_once) == min(limit, count)
