"""One small model, one cost: is it better spent on more tokens, on a teacher, or on better tokens at the end?

General English with a tenth of mathematics. Every run of a seed begins with the same weights. Cost is exact training
FLOPs, and for a taught run the teacher's forward passes too; what training the teacher cost is printed beside it, since
a teacher is often there already. Variants:

    more       the whole cost on tokens, decay over the last tenth
    fewer      as many tokens as the taught runs can afford, without a teacher: what it adds at equal tokens
    distilled  the teacher's whole distribution (weight --weight) at those tokens
    likeliest  the same from its --top-k likeliest tokens, asked beforehand
    annealed   as many tokens as ``more``, the last three tenths decaying while mathematics is half of the mixture

Everything is on disk under --out, and the same command goes on where it was stopped. --minutes is for the training.

    python benchmarks/small_models.py --out runs/small-models --corpus ../shared/corpus --minutes 20
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from isoflop.files import write_json
from isoflop.planning.hyperparameters import batch_ramp, peak_learning_rate, warmup_tokens
from isoflop.planning.ladder import shape_for
from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.processors import processors
from isoflop.progress import Report, console
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.config import Teacher, TrainConfig
from isoflop.training.launch import train_here
from isoflop.training.lessons import ask
from isoflop.training.run import Run

VOCAB, CONTEXT = 1024, 128
MEGABYTES = {"general": 40, "math": 6}
PLAIN, MATHEMATICAL = {"general": 0.9, "math": 0.1}, {"general": 0.5, "math": 0.5}
SEEDS = (0, 1, 2)
VARIANTS = ("more", "fewer", "distilled", "likeliest", "annealed")
TEACHERS_COST = 3.0  # of training the teacher, in costs of one student


def sources(out: Path, corpus: Path, report: Report) -> tuple[Source, ...]:
    """Both texts as tokens of one tokenizer, that of the general one."""
    for name, megabytes in MEGABYTES.items():
        tokenizer = str(out / "general" / "tokenizer.json") if name != "general" else None
        settings = PrepareConfig(str(corpus / name), VOCAB, 0.02, megabytes * 1_000_000, tokenizer=tokenizer)
        prepare(settings, out / name, report)
    return tuple(Source(name, str((out / name).resolve())) for name in MEGABYTES)


def budget(a: argparse.Namespace, student: Shape, teacher: Shape) -> float:
    """FLOPs of one student's run, from the minutes and this machine's measured speed; decided once."""
    path = a.out / "budget.json"
    if not path.exists():
        speed = measure_speed(a.out / "speed.json", VOCAB, CONTEXT)
        rate = len(processors()) * student.flops_per_token / speed.seconds_per_token(student.matmul)
        taught = student.flops_per_token / (student.flops_per_token + teacher.flops_per_token / 3)
        runs = len(SEEDS) * (4 + taught) + TEACHERS_COST  # asking beforehand is done once, not for every seed
        write_json(path, {"flops": 60 * a.minutes * rate / runs})
    return float(json.loads(path.read_text())["flops"])


def config_of(shape: Shape, tokens: float, data: tuple[Source, ...], seed: int, decay: float = 0.1) -> TrainConfig:
    """A run by the rules, on the plain mixture."""
    batch = BatchRamp(*batch_ramp(1e15, max(1024, CONTEXT)))
    end = batch.align(tokens)
    warmup = int(warmup_tokens(shape.matmul, end, batch.first))
    schedule = Schedule(end, peak_learning_rate(shape.matmul), warmup, end - batch.align(end * (1 - decay)))
    mixture = Mixture(data, (Blend(0, PLAIN),))
    return TrainConfig(shape, schedule, batch, mixture=mixture, seed=seed, validate_times=1)


def variant(name: str, a: argparse.Namespace, flops: float, data: tuple[Source, ...], seed: int) -> TrainConfig:
    """The config of one student."""
    student, teacher = shapes(a)
    each = student.flops_per_token
    if name in ("more", "annealed"):
        config = config_of(student, flops / each, data, seed, 0.3 if name == "annealed" else 0.1)
        if name == "annealed":
            begin = config.schedule.corners[1]
            mixture = Mixture(data, (Blend(0, PLAIN), Blend(begin, MATHEMATICAL)))
            config = replace(config, mixture=mixture)
        return config
    config = config_of(student, flops / (each + teacher.flops_per_token / 3), data, seed)
    if name == "fewer":
        return config
    top_k = a.top_k if name == "likeliest" else 0
    return replace(config, teacher=Teacher("../teacher", a.weight, top_k))


def shapes(a: argparse.Namespace) -> tuple[Shape, Shape]:
    """The student's and the teacher's."""
    return shape_for(a.student, VOCAB, context=CONTEXT), shape_for(a.teacher, VOCAB, context=CONTEXT)


def train_all(a: argparse.Namespace, report: Report) -> dict[str, list[dict[str, float]]]:
    """Train the teacher, then every variant with every seed; their summaries."""
    data = sources(a.out, a.corpus, report)
    student, teacher = shapes(a)
    flops = budget(a, student, teacher)
    print(f"student {student.name}, teacher {teacher.name}, {flops:.3g} FLOPs a run", flush=True)
    master = config_of(teacher, TEACHERS_COST * flops / teacher.flops_per_token, data, 100)
    show("teacher", train_here(master, a.out / "teacher", report))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in SEEDS:
        for name in VARIANTS:
            path, config = a.out / f"{name}.{seed}", variant(name, a, flops, data, seed)
            Run(path).start(config)
            if config.teacher is not None and config.teacher.top_k and Run(path).summary is None:
                print(f"asked: {ask(config, path, report)}", flush=True)
            found[name].append(train_here(config, path, report))
            show(f"{name}.{seed}", found[name][-1])
    return found


def show(name: str, summary: dict[str, float]) -> None:
    """A line of one run."""
    cost = summary["flops_exact"] + summary.get("flops_teacher", 0.0)
    losses = ", ".join(f"{source} {summary[f'validation_loss/{source}']:.4f}" for source in MEGABYTES)
    print(
        f"{name:<13} {summary['tokens']:>11,} tokens {cost:.3g} FLOPs {summary['seconds']:5.0f} s  {losses}", flush=True
    )


def main() -> None:
    """Train and compare with ``more``, pairs of equal seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--student", type=float, default=2e5)
    parser.add_argument("--teacher", type=float, default=8e5)
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--top-k", type=int, default=16)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    with console() as report:
        found = train_all(a, report)
    for source in MEGABYTES:
        losses = {name: np.array([s[f"validation_loss/{source}"] for s in found[name]]) for name in VARIANTS}
        print(f"\n{source}, nats/token: mean of seeds, and each seed's difference from more")
        for name, values in losses.items():
            pairs = ", ".join(f"{pair:+.4f}" for pair in values - losses["more"])
            print(f"{name:<13}{values.mean():9.4f}   {pairs}")


if __name__ == "__main__":
    main()
