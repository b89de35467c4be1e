"""What was sampled for a prompt, what reward and verifier say of it, and which answers are worth learning from.

Answers are ordered: right ones first where there is a verifier, then by reward where there is a reward model, then by a
key of their texts, so that neither the order of sampling nor length decides. One that was cut off at the limit, or is
empty, is counted and never learnt from: its end would be taught as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from isoflop.keys import derive_key
from isoflop.posttraining.conversation import Conversation, Message, Ranking
from isoflop.problems.preferences import pairs
from isoflop.problems.verdict import Status, Verdict


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        text: what it says.
        tokens: its length, the token that ends it included.
        logprob: nats, summed over its tokens, of the model as it is (at temperature 1).
        temperature: at which it was drawn.
        finish: "stop" if it came to an end of its own.
        reward: the reward model's, if there is one.
        verdict: the verifier's, if there is one.
        why: what the verifier says is wrong with it.
    """

    text: str
    tokens: int
    logprob: float
    temperature: float
    finish: str
    reward: float | None = None
    verdict: Status | None = None
    why: str = ""

    @property
    def right(self) -> bool:
        """Whether a verifier says so."""
        return self.verdict == "right"

    @property
    def whole(self) -> bool:
        """Whether it may be learnt from."""
        return self.finish == "stop" and bool(self.text.strip())

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Better ones have higher ranks."""
        return self.right, -math.inf if self.reward is None else self.reward, derive_key(0, "answer", self.text)


@dataclass(frozen=True)
class Sampled:
    """A prompt and all answers to it.

    Attributes:
        place: where the prompt was read, as file:line.
        prompt: what was asked; behind it, where it is asked again, a wrong answer and what was said of that.
        samples: the answers.
        again: how often the same had been asked before, without a right answer.
    """

    place: str
    prompt: tuple[Message, ...]
    samples: tuple[Sample, ...]
    again: int = 0

    @property
    def ordered(self) -> list[Sample]:
        """The answers that may be learnt from, best first, those that say the same once.

        Where a reward model was asked, one that it could not read is not among them.
        """
        asked = any(sample.reward is not None for sample in self.samples)
        usable = [sample for sample in self.samples if sample.whole and not (asked and sample.reward is None)]
        different = {sample.text.strip(): sample for sample in usable}
        return sorted(different.values(), key=lambda sample: sample.rank, reverse=True)

    def best(self) -> Conversation | None:
        """The prompt with its best answer; None where none may be learnt from, or a verifier says none is right."""
        if not (ordered := self.ordered) or (ordered[0].verdict is not None and not ordered[0].right):
            return None
        return Conversation((*self.prompt, Message("assistant", ordered[0].text)))

    @property
    def question(self) -> str:
        """What the user asked first."""
        return next(message.content for message in self.prompt if message.role == "user")

    @property
    def solved(self) -> bool:
        """Whether any answer is right."""
        return any(sample.right for sample in self.samples)

    def any_answer(self, seed: int) -> Conversation | None:
        """The prompt with one of the answers that came to an end, drawn by ``seed``; None where none did."""
        whole = [sample for sample in self.samples if sample.whole]
        if not whole:
            return None
        drawn = min(range(len(whole)), key=lambda n: derive_key(seed, "any answer", self.question, n))
        return Conversation((*self.prompt, Message("assistant", whole[drawn].text)))

    def preference(self, margin: float) -> Ranking | None:
        """The best answer over the worst; None where nothing tells them apart.

        Of answers with a verdict a right one over a wrong one: with rewards the best over the worst of them, else the
        two that are closest in length. Of others those whose rewards differ by ``margin`` at least.
        """
        if len(ordered := self.ordered) < 2:
            return None
        best, worst = ordered[0], ordered[-1]
        if best.verdict is None:
            apart = (best.reward or 0.0) - (worst.reward or 0.0)
            return self.over(best.text, worst.text) if apart > 0 and apart >= margin else None
        if best.reward is not None:
            return self.over(best.text, worst.text) if best.right and not worst.right else None
        found = pairs((sample.text, Verdict(sample.verdict or "wrong", None)) for sample in ordered)
        return self.over(*found[0]) if found else None

    def over(self, chosen: str, rejected: str) -> Ranking:
        """One answer preferred to another."""
        return Ranking(self.prompt, (chosen, rejected))

    def to_row(self) -> dict[str, Any]:
        """A JSON object."""
        prompt = [asdict(message) for message in self.prompt]
        samples = [asdict(sample) for sample in self.samples]
        return {"place": self.place, "prompt": prompt, "samples": samples, "again": self.again}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Sampled:
        """Out of :meth:`to_row`'s object."""
        prompt = tuple(Message(**message) for message in row["prompt"])
        samples = tuple(Sample(**sample) for sample in row["samples"])
        return cls(row["place"], prompt, samples, row.get("again", 0))


def figures(found: Sequence[Sampled]) -> dict[str, Any]:
    """What a set of prompts came to: means over prompts, with the half-widths of their 95% intervals.

    ``pass_1`` is the mean share of right answers, ``pass_k`` the share of prompts with any, ``mixed`` that of prompts
    with both, from which a verifier's preferences come. What was asked again is counted apart: ``corrected`` is the
    share of those prompts, tries together, that were then answered rightly.
    """
    again = [sampled for sampled in found if sampled.again]
    found = [sampled for sampled in found if not sampled.again]
    samples = [sample for sampled in found for sample in sampled.samples]
    answered: dict[str, Any] = {
        "prompts": len(found),
        "samples": len(samples),
        "mean_tokens": sum(sample.tokens for sample in samples) / max(1, len(samples)),
        "finish": {kind: sum(sample.finish == kind for sample in samples) for kind in ("stop", "length")},
        "empty": sum(not sample.text.strip() for sample in samples),
    }
    if any(sample.reward is not None for sample in samples):
        rewards = [[sample.reward for sample in sampled.samples if sample.reward is not None] for sampled in found]
        rewards = [row for row in rewards if row]
        answered |= mean("reward", [sum(row) / len(row) for row in rewards])
        answered |= mean("best_reward", [max(row) for row in rewards])
    if any(sample.verdict is not None for sample in samples):
        shares = [sum(s.right for s in sampled.samples) / len(sampled.samples) for sampled in found]
        answered |= mean("pass_1", shares)
        answered |= mean("pass_k", [float(share > 0) for share in shares])
        answered |= mean("mixed", [float(0 < share < 1) for share in shares])
    if again:
        solved: dict[str, bool] = {}
        for sampled in again:
            solved[sampled.place] = solved.get(sampled.place, False) or sampled.solved
        answered |= {"asked_again": len(solved)} | mean("corrected", [float(right) for right in solved.values()])
    return answered


def mean(name: str, values: Sequence[float]) -> dict[str, float]:
    """A mean under a name, and the half-width of its 95% interval where there are two or more."""
    middle = sum(values) / len(values)
    if len(values) < 2:
        return {name: middle}
    variance = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return {name: middle, f"{name}_error": 1.96 * (variance / len(values)) ** 0.5}
