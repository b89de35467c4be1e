"""Cleaning a corpus: from raw documents to cleaned ones, with the account of every stage.

    prepare stages → cut into shards → for each pass: judge and survey every shard, combine → sum up

A killed cleaning goes on where it was, and ends with the same bytes; so it does with any number of workers, on one
machine or many. Memory is a few shards for every worker. Disk: the cleaned corpus, and of the passes' documents two
at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from isoflop.corpus.document import CorpusError
from isoflop.corpus.pipeline import cut as cutting
from isoflop.corpus.pipeline import inputs, tables
from isoflop.corpus.pipeline.account import OTHERS, StageAccount, Tally, draw_again, largest
from isoflop.corpus.pipeline.config import CleanConfig
from isoflop.corpus.pipeline.layout import Job, Pass, Task
from isoflop.corpus.pipeline.local import LocalPool
from isoflop.files import discard, locked, remove_temporaries, write_json, write_text
from isoflop.interrupt import Interrupted, interruptible
from isoflop.progress import Report, silent

GROUPS = 200
"""The most groups of documents in a summary."""
CONFIG, SUMMARY, LOCK = "clean.toml", "summary.json", ".isoflop-lock"


class Pool(Protocol):
    """Something that performs tasks: the processes of this machine, or a cluster."""

    def __enter__(self) -> Pool:
        """Start."""

    def __exit__(self, *_: Any) -> None:
        """Leave, and whatever is running with it."""

    def run(self, tasks: Sequence[Task], done: Callable[[int], None], stop: Callable[[], None]) -> None:
        """Perform tasks, in any order; ``done`` is told how many are, and ``stop`` may raise to end it."""


def clean(
    config: CleanConfig,
    out: Path,
    report: Report = silent,
    pool: Callable[[Job], Pool] = LocalPool,
    keep: bool = False,
) -> dict[str, Any]:
    """Clean the corpus of ``config`` into the folder ``out`` and return the summary; at once if that has been done.

    ``keep`` leaves the documents of every pass there. Raises CorpusError for the corpus, or if nothing is left of it,
    ValueError if ``out`` holds something else, StageError (a RuntimeError) naming the stage and the document that it
    failed at, RuntimeError if a process died, Interrupted after Ctrl-C or SIGTERM.
    """
    out = Path(out).absolute()
    job = Job(config, out)
    _claim(config, out)
    with locked(out / LOCK), interruptible() as stopped:
        _agree(config, out)
        inputs.check(config, out)
        if not (out / SUMMARY).exists():
            _clean(job, report, pool, keep, stopped)
    summary: dict[str, Any] = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    if not summary["kept"]["documents"]:
        raise CorpusError(_nothing_left(summary, out))
    return summary


def _clean(job: Job, report: Report, pool: Callable[[Job], Pool], keep: bool, stopped: Callable[[], bool]) -> None:
    def stop() -> None:
        if stopped():
            raise Interrupted(f"the cleaning was stopped; the same command goes on with what is left of {job.out}")

    remove_temporaries(job.work)
    remove_temporaries(job.documents)
    with pool(job) as workers:

        def run(label: str, tasks: Sequence[Task]) -> None:
            waiting = [task for task in tasks if not job.done(task)]
            before, total = len(tasks) - len(waiting), len(tasks)
            workers.run(waiting, lambda done: report(label, before + done, total), stop)

        run("prepare", [Task("prepare", index) for index in range(len(job.config.steps))])
        cut = cutting.cut(job, report, stop)
        for this in job.passes:
            run(f"pass {this.number} of {len(job.passes)}", [Task("shard", this.number, n) for n in range(cut.shards)])
            if this.survey is not None:
                run(f"combine {job.config.labels[this.survey]}", [Task("combine", this.survey, cut.shards)])
            if not keep:
                for folder in job.disposable(this.number):
                    discard(folder)
    _sum_up(job, cut)


def _sum_up(job: Job, cut: cutting.Cut) -> None:
    """Add up the accounts of all tasks into the files that people read; the summary last, because it says "done"."""
    stages = {label: StageAccount() for label in job.config.labels}
    seconds: dict[str, float] = {}
    examples = []
    for this in job.passes:
        records = [job.account(this.number, shard) for shard in range(cut.shards)]
        examples += draw_again((_account(path, stages, seconds) for path in records), job.config.examples)
    for task in (Task(kind, step) for kind in ("prepare", "combine") for step in range(len(job.config.steps))):
        if job.marker(task).exists():
            record = json.loads(job.marker(task).read_text(encoding="utf-8"))
            seconds[f"{job.config.labels[task.which]}.{task.kind}"] = record["seconds"]
    kept = list(stages.values())[-1].kept
    write_json(job.out / "timing.json", dict(sorted(seconds.items())))
    write_json(job.out / "examples.json", examples)
    cut.groups = largest(cut.groups, GROUPS)
    for account in stages.values():
        account.groups = largest(_named(account.groups, cut.groups), GROUPS)
    summary = {
        "by": job.config.by,
        "read": cutting.summary(cut),
        "stages": {label: account.to_json() for label, account in stages.items()},
        "kept": {"documents": kept.documents, "bytes": kept.bytes},
        "shards": cut.shards,
    }
    job.documents.mkdir(exist_ok=True)
    write_json(job.out / SUMMARY, summary)


def _named(groups: Mapping[str, Tally], known: Mapping[str, Tally]) -> dict[str, Tally]:
    """A stage's groups, those counted together in ``known`` counted together here too."""
    if OTHERS not in known:
        return dict(groups)
    named: dict[str, Tally] = {}
    for group, tally in groups.items():
        named.setdefault(group if group in known else OTHERS, Tally()).add(tally)
    return named


def _account(path: Path, stages: dict[str, StageAccount], seconds: dict[str, float]) -> list[dict[str, Any]]:
    """Add one task's account to the sums; returns its examples."""
    record = json.loads(path.read_text(encoding="utf-8"))
    for label, account in record["stages"].items():
        stages[label].add(StageAccount.from_json(account))
    for label, spent in record["seconds"].items():
        seconds[label] = seconds.get(label, 0.0) + spent
    examples: list[dict[str, Any]] = record["examples"]
    return examples


def _claim(config: CleanConfig, out: Path) -> None:
    """Make the folder, and refuse one that holds something else or lies in the corpus."""
    for source in config.corpus:
        folder = Path(source.path).expanduser()
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{out} lies in the corpus {source.path}, which would then be another: clean elsewhere.")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to clean into.")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / LOCK).exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty, and not a cleaning: give a new or empty folder.")


def _agree(config: CleanConfig, out: Path) -> None:
    """Write the config where none is; refuse a folder that was begun with another."""
    path = out / CONFIG
    if not path.exists():
        write_text(path, config.dumps())
        return
    found = tables.difference(tables.read_table(path), config.table())
    if found is not None:
        raise ValueError(
            f"{out} was begun with another config, {found}: clean into another folder, or remove this one."
        )


def _nothing_left(summary: dict[str, Any], out: Path) -> str:
    dropped = {
        (label, reason): tally["documents"]
        for label, account in summary["stages"].items()
        for reason, tally in account["reasons"].items()
    }
    label, reason = max(dropped, key=lambda which: dropped[which])
    return (
        f"nothing is left of {summary['read']['documents']:,} documents: {label} dropped {dropped[label, reason]:,} "
        f"of them, for {reason!r}. Loosen its thresholds; the account and examples are in {out}."
    )


def describe(passes: Sequence[Pass], labels: Sequence[str]) -> list[str]:
    """The passes in words, one line each."""
    return [
        f"pass {this.number}: "
        + ", ".join([labels[index] for index in this.judges])
        + (f"{'; ' if this.judges else ''}survey for {labels[this.survey]}" if this.survey is not None else "")
        for this in passes
    ]
