"""The learning-rate rule put to the test: each size trained at multiples of the rule's peak rate.

    python benchmarks/learning_rate.py --tokens runs/quickstart/tokens --out runs/learning-rate --sizes 44e3 250e3

Sizes run one after the other; start a second process with other sizes to use a second core. Resumes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from isoflop.planning.hyperparameters import DECAY_FRACTION, batch_ramp, peak_learning_rate, warmup_tokens
from isoflop.planning.ladder import shape_for
from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.tokens.dataset import TokenDataset
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train


def main() -> None:
    """Train and print one line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=float, nargs="+", required=True)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--train-tokens", type=float, default=4e6)
    parser.add_argument("--context", type=int, default=128)
    a = parser.parse_args()
    torch.set_num_threads(1)
    vocab = TokenDataset.open(a.tokens).tokenizer.vocab_size
    for size in a.sizes:
        shape = shape_for(size, vocab, context=a.context)
        batch = BatchRamp(*batch_ramp(1e15))
        tokens = batch.align(a.train_tokens)
        decay = tokens - batch.align(tokens * (1 - DECAY_FRACTION))
        schedule = Schedule(tokens, 1.0, int(warmup_tokens(shape.matmul, tokens)), decay)
        for factor in a.factors:
            peak = factor * peak_learning_rate(shape.matmul)
            config = TrainConfig(shape, replace(schedule, peak=peak), batch, str(a.tokens.resolve()), validate_times=1)
            summary = train(config, a.out / f"{shape.name}-{factor:g}")
            loss, seconds = summary["validation_loss"], summary["seconds"]
            print(
                f"{shape.name:<16} {factor:4g} × rule = {peak:.4f}: loss {loss:.4f} after {seconds:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
