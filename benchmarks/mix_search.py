"""Does the mixture that small proxies chose beat the natural and the uniform one in a larger model at equal compute?

Four domains with one tokenizer: code (the sources that this Python installation carries), general, math and
multilingual text. The target is half held-out mathematics from whole sources that are in no domain, half the held-out
documents of code. ``isoflop mix`` searches with proxies; then larger models of the planned tokens are trained: the
natural, the uniform and the chosen mixture with three seeds each, and some of the proxies' other mixtures with one, to
see whether proxies order mixtures as larger models do. Equal seeds have equal initial weights and orders of data.

Everything is on disk under --out, and the same command goes on where it was stopped. --minutes is for all of it on this
machine: three tenths are for the proxies, half for the larger models, the rest for preparing and measuring speed.

    python benchmarks/mix_search.py --out runs/mix-search --corpus ../shared/corpus --minutes 25
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from isoflop import config as configuration
from isoflop.corpus import documents
from isoflop.files import write_json, write_text
from isoflop.laws import Law
from isoflop.laws.fitting.mixture import spearman
from isoflop.mixing.design import design
from isoflop.mixing.layout import CONFIG, Proxy, proxy_config
from isoflop.mixing.request import FORWARD, Request, largest, resolve, texts, within
from isoflop.mixing.search import search, train_all
from isoflop.mixing.settings import MixConfig, Weights
from isoflop.planning.hyperparameters import context_for
from isoflop.processors import processors
from isoflop.progress import Report, console
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.run import Run

VOCAB = 1024
MEGABYTES = {"code": 12, "general": 24, "math": 4, "multilingual": 8}
"""Text of each domain: the natural mixture is half general, and mathematics scarce enough to be repeated."""
SEEDS = (0, 1, 2)
VALIDATION_TOKENS = 131_072
COMPARED = ("natural", "uniform", "chosen")
TARGET_PER_PARAMETER = 20.0
SHARE_OF_SEARCH, SHARE_OF_TARGETS = 0.3, 0.5
TOKENIZER_SAMPLE, LONGEST_PIECE = 2_000_000, 20_000


def corpora(corpus: Path) -> dict[str, str]:
    """Where each domain's text is."""
    return {"code": "python"} | {name: str(corpus / name) for name in ("general", "math", "multilingual")}


def prepared(out: Path, corpus: Path, report: Report) -> dict[str, Path]:
    """Tokens of every domain and of the held-out mathematics, with one tokenizer trained on all domains alike."""
    exam = out / "text" / "exam"
    exam.mkdir(parents=True, exist_ok=True)
    for file in sorted((corpus / "heldout").glob("whole-math-*")):
        shutil.copy(file, exam)
    sample = out / "text" / "all.jsonl"
    if not sample.exists():
        write_text(sample, "".join(pieces(where) for where in corpora(corpus).values()))
    prepare(PrepareConfig(str(sample), VOCAB, tokenizer_bytes=4 * TOKENIZER_SAMPLE), out / "all", report)
    tokenizer = str(out / "all" / "tokenizer.json")
    for name, where in corpora(corpus).items():
        settings = PrepareConfig(where, VOCAB, 0.05, MEGABYTES[name] * 1_000_000, tokenizer=tokenizer)
        prepare(settings, out / name, report)
    prepare(PrepareConfig(str(exam), VOCAB, tokenizer=tokenizer), out / "exam", report)
    return {name: out / name for name in (*corpora(corpus), "exam")}


def pieces(where: str) -> str:
    """The beginnings of a domain's documents as JSON lines, evenly taken until there are enough for a tokenizer."""
    beginnings = [document.text[:LONGEST_PIECE] for document in documents(where)]
    step = max(1, int(sum(map(len, beginnings)) / TOKENIZER_SAMPLE))
    return "".join(json.dumps({"text": text}) + "\n" for text in beginnings[::step])


def planned(a: argparse.Namespace, folders: dict[str, Path]) -> tuple[MixConfig, float]:
    """The search, and the size of the larger models: both from measured speed, once."""
    sources, target = {name: str(folders[name]) for name in MEGABYTES}, {str(folders["exam"]): 0.5, "code": 0.5}
    request = Request(sources, target, proxies=a.proxies)
    if (a.out / "plan.json").exists():
        plan = json.loads((a.out / "plan.json").read_text())
    else:
        workers, context = len(processors()), context_for(1e13)
        speed = measure_speed(a.out / "speed.json", VOCAB, context)
        runs = -(-(len(COMPARED) * len(SEEDS) + a.others) // workers)
        measuring = texts(request) * VALIDATION_TOKENS / FORWARD
        size = largest((60 * a.minutes * SHARE_OF_TARGETS - speed.compile_seconds) / runs - 5, speed, measuring)
        proxy, tokens = within(replace(request, minutes=a.minutes * SHARE_OF_SEARCH), speed, VOCAB, context, workers)
        plan = {"size": size, "tokens": TARGET_PER_PARAMETER * size, "proxy_size": proxy, "proxy_tokens": tokens}
        write_json(a.out / "plan.json", plan)
    request = replace(
        request,
        parameters=plan["proxy_size"],
        tokens=plan["proxy_tokens"],
        target_tokens=plan["tokens"],
    )
    return resolve(request, a.out / "mix", processors()), plan["size"]


def larger(config: MixConfig, size: float, chosen: Weights, count: int, folder: Path, report: Report) -> list[Proxy]:
    """Train the larger models: the compared mixtures with every seed, ``count`` other ones with the first."""
    tried = design(config)
    others = [name for name in tried if name not in COMPARED][: 2 * count : 2]
    mixtures = tried | {"chosen": chosen}
    full = replace(config, parameters=size, tokens=int(config.target_tokens), validation_tokens=VALIDATION_TOKENS)
    if not (folder / CONFIG).exists():
        for name in (*COMPARED, *others):
            for seed in SEEDS if name in COMPARED else SEEDS[:1]:
                run = proxy_config(replace(full, seed=seed), mixtures[name])
                Run(folder / "proxies" / f"{name}.{seed}").start(run)
        write_text(folder / CONFIG, configuration.dumps(full))
    return train_all(folder, report)


def losses(config: MixConfig, trained: list[Proxy]) -> dict[str, Weights]:
    """By mixture the losses of its seeds on every held-out text and, last, on the target; (seeds, texts + 1)."""
    found: dict[str, list[list[float]]] = {}
    for proxy in trained:
        assert proxy.losses is not None
        row = [proxy.losses[text.name] for text in config.held_out]
        found.setdefault(proxy.name.rpartition(".")[0], []).append([*row, float(np.dot(row, config.shares))])
    return {name: np.array(rows) for name, rows in found.items()}


def compare(config: MixConfig, found: dict[str, Weights]) -> None:
    """Print the losses of the compared mixtures, and the differences of pairs of equal seed."""
    texts = [text.name for text in config.held_out]
    print(f"\n{'mixture':<14}" + "".join(f"{name:>15}" for name in (*texts, "target")) + "   sd of target")
    for name in COMPARED:
        rows = found[name]
        print(f"{name:<14}" + "".join(f"{value:15.4f}" for value in rows.mean(axis=0)), end="")
        print(f"{rows[:, -1].std(ddof=1):15.4f}")
    for name in COMPARED[:2]:
        pairs = found[name][:, -1] - found["chosen"][:, -1]
        half = student.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / np.sqrt(len(pairs))
        each = ", ".join(f"{pair:+.4f}" for pair in pairs)
        print(f"chosen below {name} by {pairs.mean():+.4f} ± {half:.4f} nats/token (95%), pairs {each}")


def order(summary: dict[str, object], config: MixConfig, found: dict[str, Weights]) -> None:
    """Print how proxies, and the law fitted to them, order the mixtures that larger models were trained on."""
    law = Law.from_json(summary["law"])
    mixtures = design(config) | {"chosen": np.array([source["weight"] for source in summary["sources"]])}
    measured = {proxy["name"]: proxy["measured"] for proxy in summary["proxies"]}
    print(f"\n{'mixture':<18}{'larger model':>14}{'law of proxies':>16}{'proxy':>10}")
    for name, rows in sorted(found.items(), key=lambda item: item[1][:, -1].mean()):
        proxy = f"{measured[name]:10.4f}" if name in measured else f"{'–':>10}"
        print(f"{name:<18}{rows[:, -1].mean():14.4f}{law(mixtures[name]):16.4f}{proxy}")
    names = list(found)
    real = [found[name][:, -1].mean() for name in names]
    print(f"rank correlation of the law with larger models: {spearman([law(mixtures[n]) for n in names], real):.3f}")
    both = [name for name in names if name in measured]
    ranks = spearman([measured[name] for name in both], [found[name][:, -1].mean() for name in both])
    print(f"rank correlation of single proxies with larger models: {ranks:.3f} over {len(both)} mixtures")


def timed(what: str, work: Callable[[], object]) -> object:
    """Do some of the work and say how long it took."""
    began = time.monotonic()
    result = work()
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--proxies", type=int, default=32)
    parser.add_argument("--others", type=int, default=5, help="mixtures of proxies that are trained larger too")
    a = parser.parse_args()
    with console() as report:
        folders = timed("preparing", lambda: prepared(a.out, a.corpus, report))
        config, size = timed("measuring", lambda: planned(a, folders))
        summary = timed("searching", lambda: search(config, a.out / "mix", report))
        chosen = np.array([source["weight"] for source in summary["sources"]])
        trained = timed("larger models", lambda: larger(config, size, chosen, a.others, a.out / "larger", report))
    found = losses(config, trained)
    proxy, model = (run.config for run in (Run(next((a.out / "mix").glob("proxies/*"))), trained[0].run))
    for what, run in (("proxies", proxy), ("larger models", model)):
        print(f"{what}: {run.shape.matmul:,} parameters, {run.schedule.tokens:,} tokens, {run.flops:.3g} FLOPs each")
    for source in summary["sources"]:
        low, high = source["interval"]
        print(
            f"{source['name']:<14} {source['weight']:6.1%} ({low:.1%} to {high:.1%}), natural {source['natural']:.1%}"
        )
    for name, gain in summary["gains"].items():
        low, high = gain["mean_interval"]
        print(f"predicted gain over {name}: {gain['value']:+.4f} ({low:+.4f} to {high:+.4f}) nats/token, proxies' size")
    compare(config, found)
    order(summary, config, found)


if __name__ == "__main__":
    main()
