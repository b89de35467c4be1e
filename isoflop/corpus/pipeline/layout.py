"""Where everything of a cleaning lies, and the passes in which it is done.

In the folder of a cleaning::

    clean.toml               the config, every threshold written out
    inputs.json              what the files that it names held
    documents/000000.jsonl.zst …
    summary.json             the account of every stage
    examples.json            documents dropped, kept and edited
    quarantine.jsonl         records and files that could not be read
    timing.json              seconds of every stage; it and the page that shows them differ between two runs
    report.html              the page
    work                     a folder of what resumption needs; may be removed when the summary is there

Stages are fused into passes over the shards. A stage that must have seen the whole corpus ends a pass, with its
survey, and its verdicts begin the next one: so that the corpus is read and written as seldom as can be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isoflop.corpus.pipeline.config import CleanConfig, Step


@dataclass(frozen=True)
class Pass:
    """One reading of all shards: the steps that judge, and the one whose survey ends it. Passes count from 1."""

    number: int
    judges: tuple[int, ...]
    survey: int | None


def passes(steps: Sequence[Step]) -> list[Pass]:
    """The passes that these steps need."""
    found: list[Pass] = []
    judges: list[int] = []
    for index, step in enumerate(steps):
        if step.stage.whole:
            found.append(Pass(len(found) + 1, tuple(judges), index))
            judges = []
        judges.append(index)
    return [*found, Pass(len(found) + 1, tuple(judges), None)]


@dataclass(frozen=True)
class Task:
    """One thing to do, in any process.

    Attributes:
        kind: "prepare" or "combine" of a stage, or a "shard" of a pass.
        which: The index of the step, or the number of the pass.
        number: Which shard; for "combine", how many there are.
    """

    kind: Literal["prepare", "combine", "shard"]
    which: int
    number: int = 0


@dataclass(frozen=True)
class Job:
    """A cleaning: its config and its folder. Everything a process needs to perform a task, and small."""

    config: CleanConfig
    out: Path

    @property
    def work(self) -> Path:
        """The folder of what resumption needs."""
        return self.out / "work"

    @property
    def documents(self) -> Path:
        """The folder of the cleaned documents."""
        return self.out / "documents"

    @property
    def passes(self) -> list[Pass]:
        """The passes, in order."""
        return passes(self.config.steps)

    def stage_folder(self, step: int) -> Path:
        """A stage's own folder."""
        return self.work / "stages" / self.config.labels[step]

    def pass_folder(self, number: int) -> Path:
        """The folder of a pass; the corpus as it was cut into shards is pass 0."""
        return self.work / f"pass-{number:02d}"

    def shard(self, number: int, shard: int) -> Path:
        """The documents of a shard as a pass left them; a pass without verdicts leaves those that it found."""
        return self._shards(number) / f"{shard:06d}.jsonl.zst"

    def _shards(self, number: int) -> Path:
        number = self._wrote(number)
        return self.documents if number == len(self.passes) else self.pass_folder(number) / "documents"

    def _wrote(self, number: int) -> int:
        """The pass that wrote the documents that pass ``number`` left."""
        plan = self.passes
        while number and not plan[number - 1].judges:
            number -= 1
        return number

    def disposable(self, number: int) -> list[Path]:
        """Folders of documents that nobody reads once pass ``number`` is complete."""
        needed = {self._shards(later) for later in range(number, len(self.passes) + 1)}
        return sorted({self._shards(earlier) for earlier in range(number)} - needed)

    def account(self, number: int, shard: int) -> Path:
        """The account of a shard in a pass; where it is, the work is done."""
        return self.pass_folder(number) / "accounts" / f"{shard:06d}.json"

    def left(self, number: int, shard: int) -> int:
        """How many documents a pass left of a shard, by its account."""
        number = self._wrote(number)
        record = json.loads(self.account(number, shard).read_text(encoding="utf-8"))
        if number == 0:
            return int(record.get("documents", 1))  # no shard is cut empty
        *_, last = record["stages"].values()
        return int(last["kept"]["documents"])

    def lost(self, number: int, shard: int) -> bool:
        """Whether documents that a pass left of a shard are gone, though their folder is still needed."""
        path = self.shard(number, shard)
        return path.parent.exists() and not path.exists() and self.left(number, shard) > 0

    def done(self, task: Task) -> bool:
        """Whether a task has been done and what it left is there."""
        return self.marker(task).exists() and not (task.kind == "shard" and self.lost(task.which, task.number))

    def marker(self, task: Task) -> Path:
        """The file that is there when a task has been done, and not before."""
        if task.kind == "shard":
            return self.account(task.which, task.number)
        return self.work / "done" / f"{self.config.labels[task.which]}.{task.kind}.json"

    def describe(self, task: Task) -> str:
        """A task in words, for messages."""
        if task.kind == "shard":
            return f"shard {task.number} of pass {task.which}"
        return f"{task.kind} of stage {self.config.labels[task.which]}"
