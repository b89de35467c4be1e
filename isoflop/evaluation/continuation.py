"""Tasks with one right continuation: whether a model would write it by itself, and how likely it finds it.

LAMBADA (Paperno et al. 2016, arXiv 1606.06031) asks for a passage's last word, arithmetic for a result. A continuation
is right where each of its tokens is the likeliest, which is what greedy generation would begin with; nothing is
generated. Perplexity is of whole continuations, as LAMBADA has it: e to the mean nats of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isoflop.evaluation.intervals import Figure, mean, share
from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.result import Result
from isoflop.evaluation.rows import Row, text_of
from isoflop.progress import Report, silent


def continuation_of(row: Row, delimiter: str = "") -> tuple[str, str]:
    """The context and continuation of a row, with ``delimiter`` between them."""
    if not (ending := text_of(row, "continuation")):
        raise ValueError("'continuation' is empty")
    return text_of(row, "context"), delimiter + ending


def complete(scorer: Scorer, pairs: Sequence[tuple[str, str]], report: Report = silent) -> Result:
    """How often greedy generation would write the continuation, and how likely it is."""
    scores = scorer.score(pairs, report)
    right = [score.greedy for score in scores]
    nats = mean([-score.logprob for score in scores])
    perplexity = Figure(raised(nats.value), raised(nats.low), raised(nats.high), nats.count)
    return Result(
        "accuracy",
        {"accuracy": share(right), "perplexity": perplexity},
        tuple(map(float, right)),
        counts={"contexts cut": sum(score.cut > 0 for score in scores)},
    )


def raised(nats: float) -> float:
    """e to so many nats; infinite where that has no number."""
    return math.exp(nats) if nats < 700 else math.inf
