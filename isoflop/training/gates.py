"""Gates at work: short-context loss and needles at the end of every long-context stage, written and said.

Where the gates are is ``planning.gates``'s. What was found is a line each of ``gates.jsonl`` in the run's directory,
cut back on resumption like the metrics. A gate never changes training; one that is shut ends the run, if so configured,
with its checkpoint written, and the same command finds it shut again: the way on is a branch whose stage is longer.
Costs a validation and forty rows of needle tests a gate.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoflop.files import write_text
from isoflop.planning.gates import END, Gate, Gates, short_context
from isoflop.tokens.blended import open_sources
from isoflop.training.branch import parent_of
from isoflop.training.needle import Needles, solved
from isoflop.training.validation import LOSS

if TYPE_CHECKING:
    from isoflop.training.trainer import Trainer

FILE = "gates.jsonl"
Line = dict[str, Any]


class Keeper:
    """Measures at a run's gates, and knows what was found at those behind it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.path, here = trainer.run.path / FILE, trainer.progress.tokens
        behind = [line for line in self.recorded() if line["tokens"] <= here]
        if trainer.ranks.leads and behind:
            self._write(behind)
        self.lines = behind
        if here and all(line["tokens"] < here for line in behind):
            self.visit(here - 1, here)  # a branch may begin at a gate, its trunk having none

    def recorded(self) -> list[Line]:
        """What was found so far, in this run or, where it has only begun, in its trunk."""
        branch = self.trainer.config.branch
        if self.path.exists() or branch is None:
            return read(self.path)
        return [
            line for line in read(parent_of(self.trainer.run, branch).path / FILE) if line["tokens"] <= branch.tokens
        ]

    @property
    def shut(self) -> str | None:
        """Why the run may not go on, where it stands; None if it may."""
        gates, last = self.trainer.config.gates, self.lines[-1] if self.lines else None
        if gates is None or gates.action == "warn" or last is None or last["passed"] or last["opens"] == END:
            return None
        return said(last) + advice(last)

    def visit(self, before: int, now: int) -> None:
        """Measure at the gates that the step from ``before`` to ``now`` tokens reached, and say what was found."""
        for gate in self.trainer.config.gated:
            if before < gate.tokens <= now:
                self.lines = [line for line in self.lines if line["tokens"] <= before]  # a run may have gone back
                line = self.measure(gate, now)
                self.lines.append(line)
                if self.trainer.ranks.leads:
                    self._write(self.lines)
                    print(f"isoflop: {said(line)}", file=sys.stderr)

    def measure(self, gate: Gate, now: int) -> Line:
        """What is found at a gate, and whether it is open."""
        trainer, gates = self.trainer, self.trainer.config.gates
        assert gates is not None
        short = short_context(gates, trainer.config.contexts)
        loss = trainer.validation.measure(trainer.model, trainer.ranks, short)[LOSS]
        line: Line = asdict(gate) | {"tokens": now, "short": short, "loss": loss, "reasons": []}
        if not gate.first:
            before = next((earlier["loss"] for earlier in self.lines if earlier["first"]), None)
            line["loss_before"] = before
            if before is not None and loss > before + gates.tolerance:
                line["reasons"].append(f"{loss - before:.4f} above, where {gates.tolerance:g} is allowed")
            if gates.needle:
                line |= self.needle(gates, gate, line["reasons"])
        return line | {"passed": not line["reasons"]}

    def needle(self, gates: Gates, gate: Gate, reasons: list[str]) -> Line:
        """The needle test at the stage's own context; adds to ``reasons`` where too few are solved."""
        trainer = self.trainer
        source = trainer.config.sources[0]
        dataset = open_sources((source,), trainer.run.path)[source.name]
        tests = Needles.of(dataset, gate.context, gates.trials)
        scores = tests.measure(trainer.model, trainer.ranks, trainer.config.micro_tokens)
        share = solved(scores)
        if share < gates.needle:
            reasons.append(f"{share:.0%} of needles, where {gates.needle:.0%} are asked for")
        return {"needle": share, "needles": [score.to_json() for score in scores]}

    def _write(self, lines: list[Line]) -> None:
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))


def read(path: Path) -> list[Line]:
    """The lines of a ``gates.jsonl``; none where there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def said(line: Line) -> str:
    """A gate's line as a sentence."""
    where = f"gate at {line['tokens']:,} tokens, before {line['opens']}"
    loss = f"loss {line['loss']:.4f} at context {line['short']:,}"
    if line["first"]:
        return f"{where}: {loss}, against which long-context stages are held"
    before = line["loss_before"]
    found = f"{loss}, " + ("not known before" if before is None else f"{before:.4f} before") + " long contexts"
    if "needle" in line:
        found += f"; {line['needle']:.0%} of needles found at {line['context']:,}"
    return f"{where}: {found}: " + ("open" if line["passed"] else f"shut ({'; '.join(line['reasons'])})")


def advice(line: Line) -> str:
    """What to do before a gate that ended the run."""
    return (
        f'. The run ends here, as gates.action = "stop" has it. Lengthen its stage of context {line["context"]:,} (a '
        f"later threshold in context.thresholds and more schedule.tokens) in a new run that branches from this one at "
        f"{line['start']:,} tokens, whose checkpoint is kept, or ask for less in gates"
    )
