"""Peak memory of training on this machine's CPU: predicted by ``planning.memory`` beside what the system counted.

Each case is trained for a few steps by the loop's own ``Trainer.step`` in a process of its own, on random tokens.
Measured is the process's high-water mark: once less its resident memory just before the model is built, when torch's
libraries (and the compiler, where blocks are compiled) are loaded because a tiny model was trained first, and once as
it is. The kernel resets the mark before the model is built.

What malloc holds back of freed tensors is not the model's. By default glibc keeps freed pieces of up to 32 MiB for
itself, in a heap that fragments; ``--malloc mapped`` (the default here, and what is predicted) has it give each large
piece back, as a GPU's allocator would reuse it, and costs time in page faults; ``--malloc system`` shows the slack.

    python benchmarks/memory.py [--only 0 3] [--malloc system] [--threads 2] [--steps 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.planning.ladder import shape_for
from isoflop.planning.layout import Layout, Recompute
from isoflop.planning.memory import BF16, FULL, Engine, TrainingMemory, base_memory, training_memory
from isoflop.planning.shape import Shape


@dataclass(frozen=True)
class Case:
    """One configuration: parameters (``matmul``), vocabulary, context, tokens of a micro-batch, and how it is run."""

    size: float
    vocab: int
    context: int
    micro_tokens: int
    bf16: bool
    compiled: bool
    recompute: Recompute = "none"
    micro_batches: int = 2

    @property
    def shape(self) -> Shape:
        """The ladder's member of this size."""
        return shape_for(self.size, self.vocab, context=self.context)

    def predicted(self) -> TrainingMemory:
        """The prediction, without a base."""
        return training_memory(
            self.shape,
            Layout(rows=self.micro_tokens // self.context, recompute=self.recompute),
            numerics=BF16 if self.bf16 else FULL,
            engine=Engine(self.compiled, "cpu"),
            accumulate=self.micro_batches > 1,
            base=0.0,
        )

    def __str__(self) -> str:
        kind = f"{'bf16' if self.bf16 else 'fp32'} {'compiled' if self.compiled else 'eager'}"
        return (
            f"{self.shape.name:<17} V {self.vocab:>6} ctx {self.context:>5} micro {self.micro_tokens:>6} x "
            f"{self.micro_batches}  {kind:<13} {self.recompute:<6}"
        )


CASES = (
    Case(4e6, 2048, 256, 8192, bf16=False, compiled=False, micro_batches=1),
    Case(4e6, 2048, 256, 8192, bf16=False, compiled=True, micro_batches=1),
    Case(10e6, 8192, 1024, 4096, bf16=False, compiled=True),
    Case(10e6, 8192, 2048, 4096, bf16=False, compiled=False),
    Case(30e6, 1024, 512, 2048, bf16=False, compiled=False),
    Case(30e6, 8192, 1024, 2048, bf16=False, compiled=False, recompute="blocks"),
    Case(30e6, 4096, 512, 2048, bf16=False, compiled=True, recompute="blocks"),
    Case(60e6, 32_000, 128, 1024, bf16=False, compiled=False, micro_batches=1),
    Case(100e6, 16_384, 2048, 2048, bf16=False, compiled=True, micro_batches=1),
    Case(300e6, 32_000, 256, 256, bf16=False, compiled=False),
    Case(1e5, 512, 256, 32_768, bf16=True, compiled=False, micro_batches=1),
    Case(1e5, 512, 1024, 32_768, bf16=True, compiled=True, micro_batches=1),
    Case(40e6, 16_384, 64, 64, bf16=True, compiled=False, micro_batches=1),
    Case(20e6, 4096, 256, 8192, bf16=False, compiled=True, micro_batches=1),
    Case(20e6, 4096, 256, 8192, bf16=False, compiled=True, recompute="blocks", micro_batches=1),
)
"""Those in bf16 are small enough for a processor that has to emulate its products."""


SMALL = {
    "kept": Case(4e6, 1024, 256, 2048, bf16=False, compiled=False, micro_batches=1),
    "recomputed": Case(10e6, 4096, 512, 2048, bf16=False, compiled=False, recompute="blocks", micro_batches=1),
}
"""Two that take seconds, for the tests."""
NAMED = {str(number): case for number, case in enumerate(CASES)} | SMALL


def status(key: str) -> int:
    """A line of the kernel's record of this process, in bytes (VmRSS resident now, VmHWM at most so far)."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024


def train(case: Case, steps: int, threads: int) -> dict[str, int]:
    """Train in this process: bytes before the model was built, and at most from then on."""
    import torch

    torch.set_num_threads(threads)
    run_steps(case, Shape(2, 64, 2, 2, 128, 256, context=case.context), 1)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run_steps(case, case.shape, steps)
    return {"before": before, "peak": status("VmHWM")}


def run_steps(case: Case, shape: Shape, steps: int) -> None:
    """A few steps of the loop's own trainer, fed random tokens."""
    import numpy as np
    import torch

    from isoflop.model.llama import Llama
    from isoflop.planning.schedule import BatchRamp, Schedule
    from isoflop.training.checkpoint import Progress
    from isoflop.training.config import TrainConfig
    from isoflop.training.loss import Terms
    from isoflop.training.objective import Objective
    from isoflop.training.optimizer import build_optimizer
    from isoflop.training.run import Run
    from isoflop.training.trainer import ALONE, Trainer

    class RandomTokens:
        def batch(self, first: int, count: int) -> np.ndarray:
            return np.random.default_rng(first).integers(shape.vocab, size=(count, shape.context + 1))

    batch = case.micro_tokens * case.micro_batches
    config = TrainConfig(
        shape, Schedule(batch * steps, 1e-4), BatchRamp(batch), "random", micro_tokens=case.micro_tokens, device="cpu"
    )
    compute = torch.bfloat16 if case.bf16 else torch.float32
    model = Llama(shape, compute=compute, compiled=case.compiled, recompute=case.recompute).initialise(0)
    optimizer = build_optimizer(model, config.optimizer)
    trainer = Trainer(
        config,
        Run(Path()),
        model,
        optimizer,
        {shape.context: RandomTokens()},  # type: ignore[dict-item]
        None,  # type: ignore[arg-type]
        torch.device("cpu"),
        Progress(0, 0, 0.0),
        ALONE,
        None,  # type: ignore[arg-type]
        Objective(Terms(), padded=False),
    )
    for _ in range(steps):
        trainer.step()


def measure(name: str, steps: int, threads: int, malloc: str) -> dict[str, int]:
    """Train one case in a process of its own."""
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": str(1 << 17)} if malloc == "mapped" else {})
    command = [sys.executable, __file__, "--child", name, "--steps", str(steps), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"case {name} failed: {done.stderr[-2000:]}")
    values: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return values


def compare(name: str, steps: int, threads: int, malloc: str) -> dict[str, Any]:
    """One case's bytes: the model's own, predicted and measured, those before it, and the whole process's."""
    predicted, found = NAMED[name].predicted(), measure(name, steps, threads, malloc)
    return {
        "case": str(NAMED[name]),
        "predicted": predicted.total,
        "measured": found["peak"] - found["before"],
        "before": found["before"],
        "whole": found["peak"],
        "moment": predicted.moment,
        "base": base_memory(Engine(NAMED[name].compiled, "cpu")),
    }


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMED, default=[str(number) for number in range(len(CASES))])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--malloc", choices=["mapped", "system"], default="mapped")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child is not None:
        print(json.dumps(train(NAMED[a.child], a.steps, a.threads)))
        return
    for name in a.only:
        line = compare(name, a.steps, a.threads, a.malloc)
        if a.json:
            print(json.dumps(line), flush=True)
            continue
        own = line["predicted"] / line["measured"] - 1
        whole = (line["predicted"] + line["base"]) / line["whole"] - 1
        print(
            f"{name:>2} {line['case']} predicted {line['predicted'] / 1e9:6.3f} GB, "
            f"measured {line['measured'] / 1e9:6.3f} "
            f"({own:+6.1%}); before {line['before'] / 1e9:.3f}; whole {line['whole'] / 1e9:6.3f} ({whole:+6.1%}); "
            f"fullest in {line['moment']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
