"""What cleaning buys: the same small model at equal tokens on raw and on cleaned text, on the same held-out texts.

Raw text is the English part of the corpus (prose and mathematics) as it is, cleaned text what ``clean_corpus.toml``
keeps of it. One tokenizer, trained on as much of the one as of the other. The held-out texts are whole sources and
samples that neither contains: cleaned by the same stages, those left out that compare with other documents, and, to see
what that choice does, as they are; and two by themselves. The model is the largest, with twenty tokens a parameter,
that fits the minutes; seeds come in pairs with equal initial weights.

Everything is on disk under --out, and the same command goes on where it was stopped.

    python benchmarks/cleaning_effect.py --out runs/cleaning-effect --minutes 20
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from isoflop import config as configuration
from isoflop.corpus import Document, documents
from isoflop.corpus.pipeline import CleanConfig, Source, clean
from isoflop.corpus.pipeline.tables import from_table, read_table
from isoflop.corpus.writer import write_documents
from isoflop.files import write_text
from isoflop.mixing.layout import CONFIG, Proxy, proxy_config
from isoflop.mixing.request import largest
from isoflop.mixing.search import train_all
from isoflop.mixing.settings import Domain, HeldOut, MixConfig
from isoflop.planning.hyperparameters import context_for
from isoflop.processors import processors
from isoflop.progress import Report, console
from isoflop.report.cleaning import write_cleaning_page
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.run import Run

STAGES = Path(__file__).with_name("clean_corpus.toml")
ENGLISH = ("general", "math")
VOCAB, SEEDS, SHARE_OF_TRAINING = 2048, (0, 1, 2), 0.85
TOKENS_PER_PARAMETER = 20.0
SAMPLE, LONGEST_PIECE, TOKENIZER_BYTES = 150_000_000, 20_000, 10_000_000
ALONE = {"squad": "whole-general-squad*", "gsm8k": "whole-math-gsm8k*"}
COMPARING = ("decontaminate",)
"""Stages that hold documents against the held-out texts themselves."""


def stages(corpus: Path) -> CleanConfig:
    """The config of stages, its paths those of ``corpus``."""
    table = read_table(STAGES)
    table["corpus"] = {name: str((corpus / name).resolve()) for name in table["corpus"]}
    for stage in table["stage"]:
        if stage["name"] == "decontaminate":
            stage["benchmarks"] = [str((corpus / Path(path).name).resolve()) for path in stage["benchmarks"]]
    return from_table(table, STAGES.name)


def held_out(corpus: Path, out: Path, report: Report) -> dict[str, Path]:
    """Folders of the held-out texts: raw, cleaned by the stages that judge documents one by one, and two alone."""
    found = {name: out / "text" / f"held-out-{name}" for name in ("raw", "clean", *ALONE)}
    for name, glob in [("raw", "*-math*"), ("raw", "*-general*"), *ALONE.items()]:
        found[name].mkdir(parents=True, exist_ok=True)
        for file in (corpus / "heldout").glob(f"{glob}.jsonl.zst"):
            shutil.copy(file, found[name])
    config = stages(corpus)
    alone = tuple(step for step in config.steps if not step.stage.whole and step.stage.name not in COMPARING)
    clean(replace(config, corpus=(Source(str(found["raw"].resolve())),), steps=alone), found["clean"], report)
    found["clean"] /= "documents"
    return found


def texts(corpus: Path, out: Path, report: Report) -> dict[str, Path]:
    """Files of the English text, raw and cleaned."""
    cleaned = out / "clean"
    clean(stages(corpus), cleaned, report)
    write_cleaning_page(cleaned)
    found = {name: out / "text" / f"{name}.jsonl.zst" for name in ("raw", "clean")}
    found["raw"].parent.mkdir(parents=True, exist_ok=True)
    if not found["raw"].exists():
        write_documents(found["raw"], (d for name in ENGLISH for d in documents(corpus / name)))
    if not found["clean"].exists():
        write_documents(found["clean"], (d for d in documents(cleaned / "documents") if d.source in ENGLISH))
    return found


def pieces(file: Path) -> Iterator[Document]:
    """Beginnings of documents spread over a file, enough for half of a tokenizer's sample."""
    count = sum(1 for _ in documents(file))
    step = max(1, count * LONGEST_PIECE // 4 // TOKENIZER_BYTES)
    for document in islice(documents(file), 0, None, step):
        yield document._replace(text=document.text[:LONGEST_PIECE])


def tokens(out: Path, files: dict[str, Path], held: dict[str, Path], report: Report) -> MixConfig:
    """Tokens of everything with one tokenizer, as a set of runs whose two domains are the raw and the cleaned text."""
    sample = out / "text" / "tokenizer.jsonl.zst"
    if not sample.exists():
        write_documents(sample, (piece for file in files.values() for piece in pieces(file)))
    prepare(PrepareConfig(str(sample), VOCAB, tokenizer_bytes=TOKENIZER_BYTES), out / "tokens" / "both", report)
    shared = str(out / "tokens" / "both" / "tokenizer.json")
    domains, tests = [], []
    for name, file in files.items():
        where = out / "tokens" / name
        prepare(PrepareConfig(str(file), VOCAB, 0.01, SAMPLE, tokenizer=shared), where, report)
        domains.append(Domain(name, str(where.resolve()), TokenDataset.open(where).split("train").tokens))
    for name, folder in held.items():
        where = out / "tokens" / f"held-out-{name}"
        prepare(PrepareConfig(str(folder), VOCAB, 0.01, tokenizer=shared), where, report)
        tests.append(HeldOut(name, str(where.resolve()), "train", 1.0 if name == "clean" else 0.0))
    return MixConfig(tuple(domains), tuple(tests), VOCAB, 1.0, 1, 1.0, validation_tokens=262_144)


def sized(config: MixConfig, out: Path, minutes: float) -> MixConfig:
    """The largest model, and its tokens, for which six runs fit the minutes on all processors."""
    context = context_for(1e13)
    speed = measure_speed(out / "speed.json", VOCAB, context)
    rounds = math.ceil(2 * len(SEEDS) / len(processors()))
    size = largest((60 * minutes * SHARE_OF_TRAINING - speed.compile_seconds) / rounds - 5, speed)
    count = int(TOKENS_PER_PARAMETER * size)
    return replace(config, parameters=size, tokens=count, target_tokens=float(count), context=context)


def train(config: MixConfig, folder: Path, report: Report) -> list[Proxy]:
    """Train both texts with every seed, and measure."""
    if not (folder / CONFIG).exists():
        for number, name in enumerate(config.names):
            for seed in SEEDS:
                run = proxy_config(replace(config, seed=seed), np.eye(2)[number])
                Run(folder / "proxies" / f"{name}.{seed}").start(run)
        write_text(folder / CONFIG, configuration.dumps(config))
    return train_all(folder, report)


def compare(config: MixConfig, trained: list[Proxy]) -> None:
    """Print nats per token by held-out text, and the differences of pairs with equal seed."""
    shape, count = trained[0].run.config.shape, trained[0].run.config.schedule.tokens
    print(f"{shape.name}: {shape.matmul:,} parameters, {count:,} tokens, {len(SEEDS)} seeds")
    print(f"{'held out':<10}{'raw':>9}{'clean':>9}   clean lower by (nats per token, 95% of the mean; pairs)")
    by_name = {proxy.name: proxy.losses or {} for proxy in trained}
    for text in config.held_out:
        rows = {name: np.array([by_name[f"{name}.{seed}"][text.name] for seed in SEEDS]) for name in config.names}
        pairs = rows["raw"] - rows["clean"]
        half = student.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / math.sqrt(len(pairs))
        each = ", ".join(f"{pair:+.4f}" for pair in pairs)
        means = "".join(f"{rows[name].mean():9.4f}" for name in config.names)
        print(f"{text.name:<10}{means}   {pairs.mean():+.4f} ± {half:.4f}   {each}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--minutes", type=float, default=20.0, help="of training; cleaning and preparing come before")
    a = parser.parse_args()
    with console() as report:
        files = texts(a.corpus, a.out, report)
        config = sized(tokens(a.out, files, held_out(a.corpus, a.out, report), report), a.out, a.minutes)
        trained = train(config, a.out / "runs", report)
    compare(config, trained)


if __name__ == "__main__":
    main()
