"""Learning rate, batch, warmup and decay for a run of N parameters, by stated rules.

The rules are simple on purpose: every run of a sweep and the model planned from it obey the same ones, so that a
prediction is about scale and nothing else. What was left out: rules fitted from the user's own runs.
"""

from __future__ import annotations

import math

PEAK_AT_1M = 0.0033
"""Peak learning rate of a model of one million ``matmul`` parameters (docs/lab.md, learning-rate scan)."""


def peak_learning_rate(parameters: float) -> float:
    """Peak rate falling as N^(-1/3), the exponent that OLMo-core's ladder uses; N = ``matmul``."""
    return PEAK_AT_1M * math.exp(-math.log(parameters / 1e6) / 3)


def first_batch_for(context: int) -> int:
    """Tokens in a run's first batches: 1,024, or as many more as make whole sequences."""
    return context * math.ceil(1024 / context)


def batch_ramp(tokens: float, first: int = 1024) -> tuple[int, tuple[int, ...]]:
    """First batch and the token counts at which it doubles, for runs of up to ``tokens`` tokens.

    Follows Step Law's optimal batch for a run of D tokens, .581·D^.571, at D = tokens consumed so far, rounded to
    a power of two times ``first``. As a function of tokens consumed it is the same for all runs, short or long.
    """
    thresholds: list[int] = []
    while True:
        batch = first << len(thresholds)
        threshold = math.exp(math.log(batch * math.sqrt(2) / 0.581) / 0.571)
        if threshold >= tokens:
            return first, tuple(thresholds)
        thresholds.append(batch * round(threshold / batch))


MOST_WARMUP = 8000
"""Steps of warmup at most: those of Llama 3 405B (arXiv 2407.21783, section 3.4.1)."""


def warmup_tokens(parameters: float, tokens: float, first_batch: int) -> float:
    """Linear warmup: one token per parameter, but at most a twentieth of the run or 8,000 first batches.

    A column of a sweep shares one trunk and so one warmup, that of its shortest run.
    """
    return min(parameters, tokens / 20, MOST_WARMUP * first_batch)


DECAY_FRACTION = 0.1
"""Share of a run's tokens over which the rate decays to zero (Hägele et al. 2024 find 10 to 20% enough)."""


def context_for(budget: float) -> int:
    """Tokens a model sees at once: doubled for every eightfold budget from 128 at 3e13, to 8,192 at most."""
    return min(8192, 128 << max(0, round(math.log(budget / 3e13, 8))))


def vocabulary_for(budget: float) -> int:
    """Vocabulary for a model trained with ``budget`` FLOPs: doubled for every eightfold budget from 512 at 3e13.

    Keeps the output head near an eighth of a compute-optimal model, within Llama 3's 128,256.
    """
    doublings = max(0, round(math.log(budget / 3e13, 8)))
    return min(131_072, 512 << doublings)
