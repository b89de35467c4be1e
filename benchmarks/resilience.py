"""What a run loses to being killed: SIGKILL at random moments, and the last bits beside those of a run left alone.

A small model is trained twice on random words: once undisturbed, once under ``isoflop.training.supervise`` while
another process kills it ``--kills`` times, at moments drawn uniformly from the time that the undisturbed run took.
Checkpoints go to the disk every 2% of the run and, unless ``--memory 0``, to a folder in memory every so many seconds,
which a process that dies leaves behind.

A kill costs what was done since the last checkpoint, half an interval on average, and a start. So with k kills and
checkpoints on the disk alone every 2% of the run, about k · 1% of it is done twice: a hundred kills double it.

    python benchmarks/resilience.py --kills 100 --minutes 30
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training import checkpoint
from isoflop.training.attempts import Effective, effective_time
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.saving import Saving
from isoflop.training.supervise import forked, supervise

BATCH = 1024
WORDS = ["law", "compute", "token", "model", "loss", "budget", "scale", "small", "large", "train", "predict", "curve"]


def corpus(out: Path) -> Path:
    """About 300,000 tokens of random sentences, prepared."""
    texts, rng = out / "texts", random.Random(0)
    texts.mkdir(parents=True)
    for i in range(100):
        lines = [" ".join(rng.choices(WORDS, k=12)) + "." for _ in range(200)]
        (texts / f"{i:02d}.txt").write_text("\n".join(lines))
    prepare(PrepareConfig(str(texts), vocab_size=300, validation_fraction=0.05), out / "tokens")
    return out / "tokens"


def config_of(tokens: Path, steps: int, memory: str, seconds: float) -> TrainConfig:
    """A model of half a million parameters that trains for so many steps."""
    total = steps * BATCH
    return TrainConfig(
        shape=Shape(4, 96, 4, 2, 256, 300, context=128),
        data=str(tokens),
        schedule=Schedule(total, 0.005, total // 50, total // 10),
        batch=BatchRamp(BATCH),
        precision="fp32",
        compile="never",
        validation_tokens=8192,
        checkpoint_seconds=1e9,
        saving=Saving(every_tokens=total // 50 // BATCH * BATCH, memory=memory, memory_seconds=seconds),
    )


def seconds_a_step(tokens: Path, out: Path) -> float:
    """Pure training time of a step here, from a short run."""
    forked(lambda: train(config_of(tokens, 200, "", 1.0), out))
    return effective_time(out).productive / 200


def killer(moments: list[float], supervisor: int) -> int:
    """Kill the child of ``supervisor`` at these moments, in seconds from now; returns how many times it was there."""
    began, met = time.monotonic(), 0
    for moment in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        children: list[str] = []
        while not children and (listed := Path(f"/proc/{supervisor}/task/{supervisor}/children")).exists():
            children = listed.read_text().split()  # none between two attempts
        for child in children:
            os.kill(int(child), signal.SIGKILL)
            met += 1
    return met


def disturbed(config: TrainConfig, run: Path, moments: list[float]) -> tuple[float, int]:
    """Train under supervision and under fire; wall seconds from the supervisor's start, and kills that were met."""
    began = time.monotonic()
    supervisor = os.fork()
    if supervisor == 0:
        torch.set_num_threads(1)
        supervise(run, lambda: train(config, run), patience=1000)
        os._exit(0)
    met = killer(moments, supervisor)
    _, status = os.waitpid(supervisor, 0)
    if status:
        raise SystemExit(f"the supervisor gave up with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began, met


def bits(run: Path) -> dict[str, bytes]:
    """The tensors of the last checkpoint."""
    newest = checkpoint.latest(run)
    assert newest is not None
    return {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}


def table(name: str, found: Effective, started: float) -> None:
    """Print where a run's time went; ``started`` is the wall time with the processes' starts."""
    print(f"{name:<12} effective {found.share:6.1%} of the run's time, {found.productive / started:6.1%} of all time")
    parts = {k: v for k, v in asdict(found).items() if isinstance(v, float) and k != "share"}
    print(" " * 13 + "  ".join(f"{key} {value:.2f} s" for key, value in parts.items()))
    print(" " * 13 + f"attempts {found.attempts}  tokens done twice {found.lost_tokens:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=30.0, help="pure training time of the run")
    parser.add_argument("--memory", type=float, default=0.7, help="seconds between checkpoints in memory; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.out or Path(tempfile.mkdtemp(prefix="resilience-"))
    shutil.rmtree(out, ignore_errors=True)
    tokens = corpus(out)
    steps = max(100, int(60 * arguments.minutes / seconds_a_step(tokens, out / "speed")))
    memory = "/dev/shm" if arguments.memory else ""
    config = config_of(tokens, steps, memory, arguments.memory or 1.0)
    began = time.monotonic()
    assert forked(lambda: train(config, out / "whole")) == 0
    alone = time.monotonic() - began
    rng = random.Random(arguments.seed)
    moments = sorted(rng.uniform(0.0, alone) for _ in range(arguments.kills))
    wall, met = disturbed(config, out / "killed", moments)
    found = {name: effective_time(out / name) for name in ("whole", "killed")}
    print(f"{config.shape.total:,} parameters, {steps:,} steps, {met} kills")
    table("undisturbed", found["whole"], alone)
    table("killed", found["killed"], wall)
    same = bits(out / "whole") == bits(out / "killed")
    print("final weights and optimiser: " + ("bit-equal" if same else "DIFFERENT"))
    print(json.dumps({name: asdict(value) for name, value in found.items()}))
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
