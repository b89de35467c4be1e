"""Models that answer the same prompts, judged by a reward model: what each is worth, and how often it beats the first.

For prompts that nothing can check. A prompt counts where the answers of all models could be judged; the others are
counted as too long. Wins are given at equal length too (``evaluation.win_rate``), because reward models like long
answers. What a reward model prefers is not what people prefer: the judge's own accuracy on held-out pairs says how far
to believe it, and one that was trained on a model's answers should not judge that model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from isoflop.evaluation.exact_match import Answering, answer
from isoflop.evaluation.intervals import mean
from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.result import Result
from isoflop.evaluation.rows import some
from isoflop.evaluation.watch import watched
from isoflop.evaluation.win_rate import Rated, win_rate
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Completion
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.formats.read import read_prompts
from isoflop.posttraining.formats.tally import Tally
from isoflop.posttraining.scoring import RewardModel
from isoflop.progress import Report, silent

Prompt = tuple[Message, ...]
Judged = list[tuple[Completion, float] | None]
"""A model's answer to every prompt and its reward; None where the prompt or the answer is too long."""


def prompts_of(files: Sequence[Path], limit: int | None) -> tuple[list[Prompt], Tally]:
    """The different prompts of files in any format, ``limit`` of them at most, and an account of their rows."""
    tally = Tally()
    return some(list(dict.fromkeys(found.value for found in read_prompts(files, tally))), limit), tally


class Contest:
    """Prompts, and the reward model that judges answers to them."""

    def __init__(self, judge: RewardModel, prompts: Sequence[Prompt], tally: Tally) -> None:
        self.judge, self.prompts, self.tally = judge, list(prompts), tally

    @classmethod
    def open(
        cls, reward: Path, files: Sequence[Path], limit: int | None = None, device: torch.device | None = None
    ) -> Contest:
        """The reward model of a directory and the prompts of files in any format, ``limit`` of them at most."""
        judge = RewardModel.load(reward).to(device or torch.device("cpu"))
        return cls(judge, *prompts_of(files, limit))

    def judged(self, scorer: Scorer, how: Answering, report: Report = silent) -> Judged:
        """Let a model answer every prompt once, in the chat format, and judge what it says."""
        chat, engine = Chat(scorer.tokenizer), Engine(scorer.decoder, scorer.tokenizer)
        ids = [tuple(chat.prompt(prompt)) for prompt in self.prompts]
        how = replace(how, samples=1, stop_ids=chat.stop_ids, stop_texts=())
        said = [own[0] if own else None for own in answer(engine, ids, lambda *_: True, how, report).completions]
        trees = [
            None if each is None else self.judge.tree(prompt, [each.text])
            for prompt, each in zip(self.prompts, said, strict=True)
        ]
        fitting = [n for n, tree in enumerate(trees) if tree is not None and tree.reach <= self.judge.context]
        found: Judged = [None] * len(self.prompts)
        rewards = self.judge.score_trees([tree for n in fitting if (tree := trees[n]) is not None])
        for n, (reward,) in zip(fitting, rewards, strict=True):
            if (completion := said[n]) is not None:
                found[n] = completion, reward
        return found


def results(judged: Mapping[str, Judged]) -> dict[str, Result]:
    """The result of every model, of which the first is what the others are compared with.

    Raises ValueError where no prompt has an answer of every model that could be judged.
    """
    by_prompt = list(zip(*judged.values(), strict=True))
    common = [number for number, answers in enumerate(by_prompt) if None not in answers]
    if not common:
        raise ValueError(
            f"none of {len(by_prompt):,} prompts has answers of all models that the reward model can read: they are "
            f"longer than its context or a model's; give shorter prompts, or lower --max-tokens"
        )
    found: dict[str, Result] = {}
    first: list[Rated] = []
    for name, own in judged.items():
        kept = [pair for number in common if (pair := own[number]) is not None]
        rated = [Rated(reward, len(completion.text)) for completion, reward in kept]
        figures = {"reward": mean([each.reward for each in rated])} | watched([[completion] for completion, _ in kept])
        groups = {}
        if first:
            wins = win_rate(first, rated)
            figures |= {"win rate": wins.rate, "win rate at equal length": wins.at_equal_length}
            groups = wins.buckets
        first = first or rated
        outcomes = tuple(each.reward for each in rated)
        found[name] = Result(
            "reward", figures, outcomes, groups=groups, counts={"prompts too long": len(by_prompt) - len(kept)}
        )
    return found
