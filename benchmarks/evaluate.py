"""Evaluation against lm-evaluation-harness's Hugging Face backend: the same items, equal scores, and the time of each.

Both have the same weights: the harness an exported Hugging Face folder, we the model itself. Sets are the multiple
choice, LAMBADA, BLiMP and 5-shot HellaSwag files of the shared data, a number of items of each, without the network.
Rounds alternate; medians and ratios. Scores are compared request by request, accuracies by the harness's rule.

    python benchmarks/evaluate.py --data DIR [--items 50] [--model RUN | --layers 12 --width 768 --heads 12]

Without ``--model`` weights are random over a tokenizer trained on the sets themselves, which costs the same time.
It needs the extra ``eval``, and transformers and accelerate.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.pieces import Score
from isoflop.evaluation.tasks import load
from isoflop.inference.decoder import Decoder
from isoflop.inference.load import load_model
from isoflop.model.export import export_hub
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.tokens.hub import hub_files
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.train import train_tokenizer

SETS = ("hellaswag_5shot", "arc_easy", "boolq", "piqa", "winograd", "lambada", "blimp")
Pairs = Sequence[tuple[str, str]]


def pairs_of(items: Sequence[Any]) -> list[tuple[str, str]]:
    """All contexts and continuations of a set's items."""
    return [pair for item in items for pair in getattr(item, "pairs", (item,))]


def model_of(a: argparse.Namespace) -> tuple[Llama, Tokenizer]:
    """The model that is asked for, or a random one over a tokenizer of the sets' texts."""
    if a.model:
        return load_model(a.model)
    texts = ["".join(pair) for name in SETS[1:] for pair in pairs_of(load(name, a.data, 2000).items)]
    tokenizer = train_tokenizer(texts, a.vocab)
    shape = Shape(a.layers, a.width, a.heads, a.heads, 8 * a.width // 3 // 32 * 32, tokenizer.vocab_size, context=1024)
    return Llama(shape).initialise(0), tokenizer


def harness(
    model: Llama, tokenizer: Tokenizer, folder: Path, batch: int
) -> Callable[[Pairs], list[tuple[float, bool]]]:
    """Scoring by lm-eval's Hugging Face backend from an exported folder."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.disable(logging.WARNING)
    export_hub(Held(model), folder, dtype=torch.float32, boundaries=(tokenizer.bos, tokenizer.eos),
               beside=hub_files(tokenizer, model.shape.context))  # fmt: skip
    backend = HFLM(
        pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch, max_length=model.shape.context,
        add_bos_token=True,
    )  # fmt: skip

    def score(pairs: Pairs) -> list[tuple[float, bool]]:
        requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
        return list(backend.loglikelihood(requests, disable_tqdm=True))

    return score


def accuracy(items: Sequence[Any], logprobs: Sequence[float], greedy: Sequence[bool]) -> float:
    """The share of items whose gold is likeliest, or whose continuation is greedy, as the harness counts."""
    values, right = iter(zip(logprobs, greedy, strict=True)), []
    for item in items:
        own = [next(values) for _ in getattr(item, "pairs", (item,))]
        best = max(range(len(own)), key=lambda n: own[n][0])
        right.append(best == item.gold if hasattr(item, "gold") else own[0][1])
    return sum(right) / len(right)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    gc.collect()
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"layers": 12, "width": 768, "heads": 12, "vocab": 8192, "items": 50, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=16, help="rows of the harness's batches")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    a = parser.parse_args()
    sets = {name: load(name, a.data, a.items).items for name in a.sets.split(",")}
    model, tokenizer = model_of(a)
    scorer = Scorer(Decoder(model), tokenizer)
    print(f"{model.shape.name}, fp32, {torch.get_num_threads()} threads, {a.items} items of each set")
    with tempfile.TemporaryDirectory() as folder:
        theirs = harness(model, tokenizer, Path(folder) / "exported", a.batch)
        ratios = [compare(name, items, scorer.score, theirs, a.rounds) for name, items in sets.items()]
    print(f"all sets: {statistics.geometric_mean(ratios):.2f}× (geometric mean)")


def compare(
    name: str,
    items: Sequence[Any],
    ours: Callable[[Pairs], list[Score]],
    theirs: Callable[[Pairs], list[tuple[float, bool]]],
    rounds: int,
) -> float:
    """Print a set's line; returns the ratio of times."""
    pairs = pairs_of(items)
    times: dict[str, list[float]] = {"isoflop": [], "lm-eval": []}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for tool, score in (("isoflop", ours), ("lm-eval", theirs)):
            taken, found[tool] = seconds(lambda score=score: score(pairs))  # type: ignore[misc]
            times[tool].append(taken)
    mine, other = [(s.logprob, s.greedy) for s in found["isoflop"]], found["lm-eval"]
    apart = max(abs(x - y) for (x, _), (y, _) in zip(mine, other, strict=True))
    unlike = sum(x != y for (_, x), (_, y) in zip(mine, other, strict=True))
    accuracies = [accuracy(items, *zip(*scores, strict=True)) for scores in (mine, other)]
    ratios = sorted(y / x for x, y in zip(*times.values(), strict=True))
    medians = [statistics.median(each) for each in times.values()]
    print(
        f"{name:16} isoflop {medians[0]:.2f} s, lm-eval {medians[1]:.2f} s: {statistics.median(ratios):.2f}× "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}); {len(pairs):,} requests, largest difference {apart:.1e} nats, "
        f"{unlike} greedy flags, accuracy {accuracies[0]:.3f} and {accuracies[1]:.3f}",
        flush=True,
    )
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
