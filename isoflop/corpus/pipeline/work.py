"""What one process does for one task: read a shard, let stages judge it, write what is left and the account of it.

A task depends on its arguments and on files of earlier tasks alone, so it may run anywhere and be run again. What it
leaves is committed before its marker, and a task with a marker is never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.pipeline.account import Reservoir, StageAccount, drawn
from isoflop.corpus.pipeline.layout import Job, Task
from isoflop.corpus.stage import Dropped, Stage, Verdict
from isoflop.corpus.writer import read_documents, write_documents
from isoflop.files import write_json
from isoflop.keys import derive_key


class StageError(RuntimeError):
    """A stage failed at a document; the message names both."""


def perform(job: Job, task: Task) -> None:
    """Do a task and leave its marker. Raises StageError, CorpusError, ValueError, OSError."""
    if job.done(task):
        return
    marker = job.marker(task)
    marker.parent.mkdir(parents=True, exist_ok=True)
    if task.kind == "shard":
        record = _shard(job, task.which, task.number)
    else:
        began = time.perf_counter()
        _once(job, task)
        record = {"seconds": time.perf_counter() - began}
    write_json(marker, record)


def _once(job: Job, task: Task) -> None:
    stage, folder = job.config.steps[task.which].stage, job.stage_folder(task.which)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        stage.prepare(folder) if task.kind == "prepare" else stage.combine(task.number, folder)
    except (CorpusError, OSError):
        raise
    except ValueError as error:  # nothing of the corpus is to blame, so it is the config
        raise ValueError(f"stage {job.config.labels[task.which]}: {error}") from error
    except Exception as error:
        raise StageError(f"{job.describe(task)} failed: {type(error).__name__}: {error}") from error


def _shard(job: Job, number: int, shard: int) -> dict[str, Any]:
    """One shard through one pass; returns its account."""
    this = job.passes[number - 1]
    batch = Batch(_found(job, number - 1, shard))
    reservoir = Reservoir(job.config.examples, derive_key(job.config.seed, "examples"))
    accounts, seconds = {}, {}
    for index in this.judges:
        label, began = job.config.labels[index], time.perf_counter()
        accounts[label] = batch.judge(job, index, shard, reservoir).to_json()
        seconds[label] = time.perf_counter() - began
    if this.survey is not None:
        began = time.perf_counter()
        _survey(job, this.survey, shard, batch.documents)
        seconds[f"{job.config.labels[this.survey]}.survey"] = time.perf_counter() - began
    if this.judges and batch.documents:
        left = job.shard(number, shard)
        left.parent.mkdir(parents=True, exist_ok=True)
        write_documents(left, batch.documents)
    return {"stages": accounts, "examples": drawn(reservoir), "seconds": seconds}


def _found(job: Job, number: int, shard: int) -> list[Document]:
    """The documents of a shard as a pass left them."""
    path = job.shard(number, shard)
    if path.exists():
        return read_documents(path)
    if left := job.left(number, shard):
        raise CorpusError(
            f"{path} is gone, with {left:,} documents that pass {number} left there: put it back, or remove {job.work} "
            "and run the same command to begin anew."
        )
    return []


def _survey(job: Job, index: int, shard: int, documents: Sequence[Document]) -> None:
    step = job.config.steps[index]
    shown = [document for document in documents if step.takes(document)]
    try:
        step.stage.survey(shown, shard, job.stage_folder(index))
    except (CorpusError, OSError):
        raise
    except Exception as error:
        where = f"shard {shard} ({shown[0].place} to {shown[-1].place})" if shown else f"shard {shard}, which is empty"
        raise StageError(
            f"stage {job.config.labels[index]} failed in its survey of {where}: {type(error).__name__}: {error}"
        ) from error


@dataclass
class Batch:
    """The documents of a shard on their way through the stages, with their sizes in bytes."""

    documents: list[Document]
    sizes: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = [len(document.text.encode()) for document in self.documents]

    def judge(self, job: Job, index: int, shard: int, reservoir: Reservoir) -> StageAccount:
        """Let a step judge the documents it takes; what is left stands in their place."""
        step, label = job.config.steps[index], job.config.labels[index]
        takes = [step.takes(document) for document in self.documents]
        shown = list(compress(self.documents, takes))
        verdicts = iter(_verdicts(step.stage, label, shown, shard, job.stage_folder(index)))
        account, documents, sizes = StageAccount(), [], []
        for document, size, taken in zip(self.documents, self.sizes, takes, strict=True):
            account.received.count(size)
            if taken:
                account.judged.count(size)
            verdict = _not_empty(document, next(verdicts)) if taken else document
            if isinstance(verdict, Dropped):
                account.drop(verdict.reason, size)
                reservoir.offer(label, "dropped", document, verdict.reason, verdict.detail)
                continue
            after = size
            if verdict.text != document.text:
                after = len(verdict.text.encode())
                account.edited.count(size - after)
                reservoir.offer(label, "edited", document, after=verdict.text)
            elif taken:
                reservoir.offer(label, "kept", document)
            account.keep(job.config.group(verdict), after)
            documents.append(verdict)
            sizes.append(after)
        self.documents, self.sizes = documents, sizes
        return account


def _not_empty(document: Document, verdict: Verdict) -> Verdict:
    """The verdict, or a drop if an edit left nothing: an empty document is no document."""
    if isinstance(verdict, Dropped) or verdict.text.strip():
        return verdict
    return Dropped(document, "nothing left")


def _verdicts(stage: Stage, label: str, documents: Sequence[Document], shard: int, folder: Path) -> Sequence[Verdict]:
    try:
        verdicts = stage.judge(documents, shard, folder)
    except (CorpusError, OSError):
        raise
    except Exception as error:
        place = _culprit(stage, documents, shard, folder)
        raise StageError(f"stage {label} failed at {place}: {type(error).__name__}: {error}") from error
    if len(verdicts) != len(documents):
        raise StageError(f"stage {label} gave {len(verdicts)} verdicts on the {len(documents)} documents it was shown")
    return verdicts


def _culprit(stage: Stage, documents: Sequence[Document], shard: int, folder: Path) -> str:
    """Which document a stage fails at, if it can be asked about one alone."""
    if not stage.whole:
        for document in documents:
            try:
                stage.judge([document], shard, folder)
            except Exception:
                return f"the document {document.place}"
    if not documents:
        return f"shard {shard}, which is empty"
    return f"one of the documents {documents[0].place} to {documents[-1].place}, shard {shard}"
