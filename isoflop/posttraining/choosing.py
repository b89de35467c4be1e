"""What the fine-tuning of a round learns from: the best answers of all rounds, without repetitions, in a stated mix.

Llama 3's way (arXiv 2407.21783, section 4.2.3): examples are taken by quality times difficulty and kept where they are
not too like one that is kept already (``selection``); answers in overused manners are limited (``wording``); kinds of
problems are brought to their shares. Quality is the rank of the answer's reward among all, difficulty the share of
wrong answers to the problem and the length of this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isoflop.model.llama import Llama
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Conversation
from isoflop.posttraining.sampled import Sampled
from isoflop.posttraining.selection import difficulty, distinct, embed, mix
from isoflop.posttraining.wording import tempered

ASKED = "asked"
"""The kind of prompts that are no problems."""


@dataclass(frozen=True)
class Choosing:
    """What is kept of the best answers.

    Attributes:
        alike: cosine above which two examples are alike, and the worse one is left out; 1 keeps all.
        manners: share of answers that may open with apologies, or be full of emoji or exclamation marks.
        shares: of the kinds of problems, and of ``asked`` for other prompts, on any positive scale; a kind with too few
            is repeated. Without any they stay as they are.
    """

    alike: float = 0.999
    manners: float = 0.02
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        if not 0 < self.alike <= 1 or not 0 <= self.manners <= 1 or any(not s >= 0 for s in self.shares.values()):
            raise ValueError(
                f"alike is a cosine above 0, manners a share from 0 to 1, and shares are 0 or more: {self}"
            )


def chosen(
    model: Llama, chat: Chat, sampled: Sequence[Sampled], kinds: Mapping[str, str], rule: Choosing
) -> tuple[list[Conversation], dict[str, Any]]:
    """The conversations to learn from, and an account of what was left out.

    ``model`` says what is alike; ``kinds`` has the kind of every problem by its prompt.
    """
    pairs = [(found, best) for found in sampled if (best := found.best()) is not None]
    rewards = np.array([found.ordered[0].reward or 0.0 for found, _ in pairs])
    right = np.array([sum(sample.right for sample in found.samples) / len(found.samples) for found, _ in pairs])
    lengths = np.array([float(found.ordered[0].tokens) for found, _ in pairs])
    quality = (1 + np.searchsorted(np.sort(rewards), rewards)) / max(1, len(pairs))
    kept = np.arange(len(pairs))
    if rule.alike < 1 and len(pairs):
        vectors = embed(model, [chat.encode(best.messages).ids for _, best in pairs])
        kept = distinct(vectors, quality * difficulty(right, lengths), rule.alike)
    plain, manners = tempered([pairs[n][1].messages[-1].content for n in kept], rule.manners)
    kept = kept[plain]
    account = {"best": len(pairs), "alike": len(pairs) - len(kept) - sum(manners.values()), "manners": manners}
    if rule.shares and len(kept):
        own = [kinds.get(pairs[n][0].question, ASKED) for n in kept]
        shares = {kind: share for kind, share in rule.shares.items() if kind in own}
        kept = kept[mix(own, shares, len(kept))]
    return [pairs[n][1] for n in kept], account | {"kept": len(kept)}
