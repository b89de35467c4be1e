"""What each of the three stages buys: one run through all of them, and branches that leave some of it out.

One declared schedule: initial training at a short context with a batch ramp, contexts that double to eight times it
with rotary frequencies rescaled and gates between, annealing to zero on a better mixture with weights averaged.
Branches from the end of the long contexts anneal on the old mixture, and do not anneal at all. Sources: general text,
mathematics, and documents with facts that come up twice, which teach a model of this size to look up. The model is the
largest for which all of it fits the minutes at about twenty tokens a parameter. One seed, so small differences say
little.

Everything is on disk under --out, and the same command goes on where it was stopped. Writes results.json, table.md and
figures.

    python benchmarks/three_stages.py --out runs/three-stages --minutes 25
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from isoflop.corpus import documents
from isoflop.corpus.writer import write_documents
from isoflop.files import write_json, write_text
from isoflop.planning.averaging import Averaging
from isoflop.planning.gates import Gates
from isoflop.planning.hyperparameters import peak_learning_rate
from isoflop.planning.ladder import shape_for
from isoflop.planning.phases import Phase
from isoflop.planning.rope import RopeScaling
from isoflop.planning.schedule import BatchRamp, ContextRamp, RopeStage, Schedule
from isoflop.processors import processors
from isoflop.progress import Report, console
from isoflop.report.law_figures.sheet import ACCENT, INK, SECOND, SOFT, save
from isoflop.report.schedule_figure import write_schedule_figure
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.tokens.recall import recall_documents
from isoflop.training.config import Branch, TrainConfig

VOCAB, SHORT, DOUBLINGS, FIRST_BATCH = 2048, 128, 3, 4096
LONG = SHORT << DOUBLINGS
EDGES = (0, *(SHORT << i for i in range(DOUBLINGS + 1)))
INITIAL, LONG_END, BRANCHES = 0.6, 0.8, 2
"""Shares of the run's tokens at which the long contexts begin and end, and how many branches anneal once more."""
COST = 1.3
"""Seconds of all that is not a step at the short context, as a factor: longer contexts, validation, gates."""
MIXES = {
    "initial": {"general": 0.9, "math": 0.1},
    "long": {"general": 0.6, "math": 0.1, "recall": 0.3},
    "better": {"general": 0.4, "math": 0.4, "recall": 0.2},
}
SIZES = (3e5, 2e6)
"""Parameters at least and at most."""
BYTES_PER_TOKEN, HELD_OUT = 3.0, 0.06
CHARACTERS, FACTS = 1500, 10


def tokens(corpus: Path, out: Path, wanted: float, report: Report) -> tuple[Source, ...]:
    """The three sources, each with about as much text as the run reads of it, in one tokenizer."""
    shared, text = str(out / "tokens" / "general" / "tokenizer.json"), out / "text" / "recall.jsonl.zst"
    if not text.exists():
        text.parent.mkdir(parents=True, exist_ok=True)
        count = int(BYTES_PER_TOKEN * wanted * 0.15 / CHARACTERS)
        made = recall_documents(documents(str(corpus / "general")), CHARACTERS, FACTS)
        write_documents(text, islice(made, count))
    configs = {
        "general": PrepareConfig(str(corpus / "general"), VOCAB, HELD_OUT, int(BYTES_PER_TOKEN * wanted)),
        "math": PrepareConfig(
            str(corpus / "math"), VOCAB, HELD_OUT, int(BYTES_PER_TOKEN * wanted * 0.3), tokenizer=shared
        ),
        "recall": PrepareConfig(str(text), VOCAB, HELD_OUT, tokenizer=shared),
    }
    for name, config in configs.items():
        prepare(config, out / "tokens" / name, report)
    return tuple(Source(name, str((out / "tokens" / name).resolve())) for name in configs)


def sized(out: Path, minutes: float) -> tuple[float, float]:
    """Parameters and tokens of the run for which it and its branches fit the minutes on all processors, once."""
    plan = out / "plan.json"
    if plan.exists():
        return tuple(json.loads(plan.read_text()))
    speed = measure_speed(out / "speed.json", VOCAB, SHORT)
    seconds = 60 * minutes * len(processors()) / (COST * (1 + BRANCHES * (1 - LONG_END)))
    # 20·N tokens of base + slope·N seconds each
    a, b = 20 * speed.slope, 20 * speed.base
    size = float(np.clip((-b + np.sqrt(b * b + 4 * a * seconds)) / (2 * a), *SIZES))
    write_json(plan, (size, seconds / speed.seconds_per_token(size)))
    return sized(out, minutes)


def whole(sources: tuple[Source, ...], size: float, wanted: float) -> TrainConfig:
    """The run through all three stages."""
    scaling = RopeScaling(float(LONG // SHORT), original=SHORT)
    shape = replace(shape_for(size, VOCAB, context=LONG), rope_scaling=scaling)
    batch = BatchRamp(FIRST_BATCH, (int(wanted * 0.2) // FIRST_BATCH * FIRST_BATCH,))
    begin, end, total = (batch.align(wanted * share, LONG) for share in (INITIAL, LONG_END, 1.0))
    grow = (end - begin) / 4
    ramp = ContextRamp.aligned(SHORT, (begin, begin + grow, begin + 2 * grow), batch)
    phases = (Phase(end, "hold"), Phase(total, "linear", 0.0))
    blends = (Blend(0, MIXES["initial"]), Blend(begin, MIXES["long"]), Blend(end, MIXES["better"]))
    return TrainConfig(
        shape=shape,
        schedule=Schedule(total, peak_learning_rate(shape.matmul), total // 50, kind="phases", phases=phases),
        batch=batch,
        mixture=Mixture(sources, blends, max_epochs=8, refuse_epochs=100),
        context=ramp,
        rope=(RopeStage(0, shape.rope_theta), RopeStage(begin, shape.rope_theta, scaling)),
        average=Averaging(end),
        gates=Gates(tolerance=0.02, needle=0.9, trials=10),
        micro_tokens=4096,
        validate_times=10,
        validation_tokens=196_608,
        keep=(begin, end),
    )


def branches(config: TrainConfig) -> dict[str, TrainConfig]:
    """What the last stage is held against: annealing on the mixture before it, and going on without annealing."""
    assert config.mixture is not None
    end, total = config.schedule.annealing, config.schedule.tokens
    same = replace(config.mixture, blends=config.mixture.blends[:-1])
    held = replace(config.schedule, phases=(Phase(end, "hold"), Phase(total, "hold")))
    common = replace(config, branch=Branch("../stages", end), mixture=same, gates=None, validate_times=1, keep=())
    return {"same-mixture": common, "not-annealed": replace(common, schedule=held)}


def states(config: TrainConfig, out: Path) -> dict[str, tuple[Path, str, int]]:
    """The weights to measure: their checkpoint, which of its parts, and the last token before them."""
    from isoflop.training import checkpoint

    begin, end, total = *config.keep, config.schedule.tokens
    runs = out / "runs"
    points = {
        "initial": (runs / "stages", "model", begin),
        "long": (runs / "stages", "model", end),
        "annealed": (runs / "stages", "model", total),
        "annealed, averaged": (runs / "stages", "average", total),
        "annealed on the same mixture": (runs / "same-mixture", "model", total),
        "annealed on the same mixture, averaged": (runs / "same-mixture", "average", total),
        "not annealed": (runs / "not-annealed", "model", total),
        "not annealed, averaged": (runs / "not-annealed", "average", total),
    }
    return {name: (checkpoint.folder(run, at), part, at) for name, (run, part, at) in points.items()}


def measure(config: TrainConfig, at: tuple[Path, str, int], trials: int) -> dict[str, Any]:
    """Short-context loss of every source, loss by position at the longest context, needles by length."""
    from isoflop.model.llama import Llama
    from isoflop.tokens.blended import open_sources
    from isoflop.training import checkpoint
    from isoflop.training.needle import Needles, solved
    from isoflop.training.parts import Weights
    from isoflop.training.positions import loss_by_position
    from isoflop.training.ranks import Ranks
    from isoflop.training.validation import Validation

    folder, part, tokens = at
    model, rope = Llama(config.shape), config.rope_at(tokens - 1)
    checkpoint.load(folder, {part: Weights(model)})
    model.set_rope(rope.theta, rope.scaling)
    sets = open_sources(config.sources, folder)
    samples = {name: Validation.build(dataset, config) for name, dataset in sets.items()}
    short = {name: s.measure(model, Ranks(), SHORT)["validation_loss"] for name, s in samples.items()}
    by_position = loss_by_position(model, samples["general"].tokens, EDGES)
    lengths = [length for length in EDGES[1:] if length >= SHORT]
    needles = {length: Needles.of(sets["general"], length, trials).measure(model, Ranks(), 4096) for length in lengths}
    return {
        "short": short,
        "positions": by_position,
        "long": float(np.dot(by_position, np.diff(EDGES)) / LONG),
        "needle": {length: solved(scores) for length, scores in needles.items()},
        "needles": [score.to_json() for scores in needles.values() for score in scores],
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """The results as a table in Markdown."""
    places = [f"{a}–{b}" for a, b in pairwise(EDGES)]
    lengths = list(next(iter(found.values()))["needle"])
    head = ["weights", "general", "math", "recall", f"at {LONG}", *places, *(f"needle {n}" for n in lengths)]
    lines = [head, ["---"] * len(head)]
    for name, f in found.items():
        losses = [*f["short"].values(), f["long"], *f["positions"]]
        lines.append([name, *(f"{x:.3f}" for x in losses), *(f"{x:.0%}" for x in f["needle"].values())])
    said = f"Nats per token; sources at context {SHORT}; positions of general text at context {LONG}.\n\n"
    return said + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def positions_panel(found: dict[str, dict[str, Any]], *, axes: Any) -> None:
    middles = np.sqrt(np.maximum(EDGES[:-1], SHORT / 4) * np.array(EDGES[1:]))
    for name, colour in (("initial", SOFT), ("long", SECOND), ("annealed", ACCENT)):
        axes.plot(middles, found[name]["positions"], "o-", ms=4, color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("position in the context, tokens")
    axes.set_ylabel("loss of general text, nats/token")
    axes.legend()


def needle_panel(found: dict[str, dict[str, Any]], *, axes: Any) -> None:
    for name, colour in (("initial", SOFT), ("long", SECOND), ("annealed", ACCENT)):
        shares = found[name]["needle"]
        axes.plot([int(n) for n in shares], list(shares.values()), "o-", ms=4, color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("length of the text, tokens")
    axes.set_ylabel("needles found")
    axes.legend()


def annealing_panel(found: dict[str, dict[str, Any]], *, axes: Any) -> None:
    names = [name for name in found if name != "initial"]
    for offset, (source, colour) in enumerate((("general", INK), ("math", ACCENT))):
        gains = [found["long"]["short"][source] - found[name]["short"][source] for name in names]
        axes.barh(np.arange(len(names)) + 0.2 - 0.4 * offset, gains, 0.38, color=colour, label=source)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"loss lower than before annealing, nats/token at {SHORT}")
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--minutes", type=float, default=25.0, help="of training; preparing comes before")
    parser.add_argument("--trials", type=int, default=20, help="needle tests at each length and depth")
    a = parser.parse_args()
    from isoflop.training.launch import train_here

    with console() as report:
        size, wanted = sized(a.out, a.minutes)
        config = whole(tokens(a.corpus, a.out, wanted, report), size, wanted)
        write_schedule_figure(config, a.out / "schedule.svg")
        runs = {"stages": config, **branches(config)}
        summaries = {name: train_here(run, a.out / "runs" / name, report) for name, run in runs.items()}
    found = {name: measure(config, at, a.trials) for name, at in states(config, a.out).items()}
    write_json(a.out / "results.json", {"summaries": summaries, "states": found})
    write_text(a.out / "table.md", table(found))
    panels = (partial(positions_panel, found), partial(needle_panel, found), partial(annealing_panel, found))
    save(a.out / "stages.svg", *panels)
    print(f"{config.shape.name}, {config.schedule.tokens:,} tokens: {a.out}\n\n{table(found)}")
    print((a.out / "runs" / "stages" / "gates.jsonl").read_text())


if __name__ == "__main__":
    main()
