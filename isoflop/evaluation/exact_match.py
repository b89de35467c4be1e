"""Tasks whose answers are written out and checked: how often a model is right, and how it writes.

With one greedy answer accuracy is the share that is right. With k samples it is their mean, and pass@j for j up to k is
the chance that one of j is right, without bias (Chen et al. 2021, arXiv 2107.03374). Answers come from
``inference.engine``, so a problem's do not depend on which others are asked. What checks an answer is a function: of
``isoflop.problems``, or anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isoflop.evaluation.intervals import Figure, share
from isoflop.evaluation.pieces import Ids
from isoflop.evaluation.result import Result
from isoflop.evaluation.watch import watched
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Completion, Request
from isoflop.inference.sampling import Sampling
from isoflop.progress import Report, silent


@dataclass(frozen=True)
class Answering:
    """How answers are written.

    Attributes:
        samples: answers a prompt; one is greedy unless ``sampling`` says otherwise.
        max_tokens: tokens of an answer at most.
        sampling: how tokens are drawn.
        stop_ids: tokens that end an answer.
        stop_texts: texts that end one.
        seed: chooses other samples.
    """

    samples: int = 1
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0))
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Answers:
    """What was written to every prompt, and which of it is right; nothing, and wrong, where a prompt was too long."""

    completions: list[list[Completion]]
    right: list[list[bool]]
    too_long: int

    @property
    def result(self) -> Result:
        """Accuracy, pass@j, length and repetition."""
        outcomes = tuple(sum(own) / len(own) for own in self.right)
        accuracy = share(
            [hit for own in self.right for hit in own], [number for number, own in enumerate(self.right) for _ in own]
        )
        samples = len(self.right[0]) if self.right else 0
        figures = {"accuracy": accuracy} | {f"pass@{j}": pass_at(self.right, j) for j in powers(samples)}
        counts = {"prompts too long": self.too_long}
        return Result("accuracy", figures | watched(self.completions), outcomes, counts=counts)


def answer(
    engine: Engine,
    prompts: Sequence[Ids],
    check: Callable[[int, str], bool],
    how: Answering,
    report: Report = silent,
) -> Answers:
    """Let a model answer prompts (ids) and check what it writes: ``check(number of the prompt, text)``.

    Each prompt is read once for its samples. Prompts that leave no room for an answer are counted, not asked.
    """
    fitting = [number for number, prompt in enumerate(prompts) if 0 < len(prompt) < engine.context]
    requests = [
        Request(prompts[n], how.samples, how.max_tokens, how.sampling, how.stop_ids, how.stop_texts, how.seed)
        for n in fitting
    ]
    completions: list[list[Completion]] = [[] for _ in prompts]
    for number in fitting:
        completions[number] = [Completion() for _ in range(how.samples)]
    done = 0
    for event in engine.stream(requests):
        completion = completions[fitting[event.request]][event.sample]
        completion.ids.append(event.id)
        completion.logprobs.append(event.logprob)
        completion.text += event.text
        completion.finish = event.finish
        if event.finish:
            done += 1
            report("answering", done, len(requests) * how.samples)
    right = [
        [check(number, each.text) for each in own] or [False] * how.samples for number, own in enumerate(completions)
    ]
    return Answers(completions, right, len(prompts) - len(fitting))


def powers(samples: int) -> list[int]:
    """2, 4, … up to the number of samples, and that."""
    return sorted(
        {2**j for j in range(1, samples.bit_length()) if 2**j <= samples} | ({samples} if samples > 1 else set())
    )


def pass_at(right: Sequence[Sequence[bool]], j: int) -> Figure:
    """The chance that at least one of ``j`` answers to a prompt is right, averaged over prompts."""

    def of(own: Sequence[bool]) -> float:
        return 1 - math.comb(len(own) - sum(own), j) / math.comb(len(own), j)

    return share([of(own) for own in right])
