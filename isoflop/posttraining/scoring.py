"""A reward model: a Llama and one vector that makes a number of the state of a response's last token.

The folder of one is a model's with ``score.safetensors`` beside it. Rewards are read in branched rows, so a prompt is
read once for all responses to it. What a reward means is its difference to another of the same prompt; nothing fixes
its zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from isoflop.inference.load import load_model
from isoflop.keys import derive_key
from isoflop.model.export import SCORE
from isoflop.model.llama import Llama
from isoflop.posttraining.branches import Branches, Tree, lay_out, portions, room_for
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.rows import packed
from isoflop.tokens.tokenizer import Tokenizer

READ_TOKENS = 8192
"""Tokens of a forward pass when answers are scored."""


class RewardModel(nn.Module):
    """``llama`` and the vector ``score`` (width,), all zeros until it is drawn or loaded."""

    def __init__(self, llama: Llama, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.llama, self.chat = llama, Chat(tokenizer)
        self.score = nn.Parameter(torch.zeros(llama.shape.width, device=llama.embedding.device))
        if llama.untied_head is not None:
            llama.untied_head.requires_grad_(False)  # says nothing about rewards

    def initialise(self, seed: int) -> RewardModel:
        """Draw the vector with deviation 1/√(width + 1) (Stiennon et al. 2020, arXiv 2009.01325); returns the model."""
        generator = torch.Generator().manual_seed(derive_key(seed, "score"))
        drawn = torch.randn(len(self.score), generator=generator) / (len(self.score) + 1) ** 0.5
        with torch.no_grad():
            self.score.copy_(drawn)
        return self

    @classmethod
    def load(cls, path: Path) -> RewardModel:
        """The reward model in a folder, in fp32 on the CPU; a ValueError where there is none."""
        if not (path / SCORE).exists():
            raise ValueError(f"{path} is no reward model: it has no {SCORE}; isoflop reward trains one")
        model = cls(*load_model(path))
        found = load_file(path / SCORE).get("score")
        if found is None or found.shape != model.score.shape:
            raise ValueError(f"{path / SCORE} has no vector of {len(model.score)} numbers named score")
        with torch.no_grad():
            model.score.copy_(found)
        return model

    def files(self) -> dict[str, bytes]:
        """What stands beside the Llama's weights, by file name."""
        return {SCORE: save({"score": self.score.detach().cpu().contiguous()})}

    @property
    def context(self) -> int:
        """Most tokens of a prompt and a response."""
        return self.llama.shape.context

    def rewards(self, branches: Branches) -> Tensor:
        """Rewards (responses,), fp32, of every response in the order of ``branches.places``."""
        return branches.last(branches.states(self.llama)).float() @ self.score.float()

    def tree(self, prompt: Sequence[Message], answers: Sequence[str]) -> Tree:
        """A conversation and answers to it as ids."""
        return Tree(self.chat.prompt(prompt), [self.chat.answer(text).ids for text in answers])

    @torch.no_grad()
    def score_trees(self, trees: Sequence[Tree]) -> list[list[float]]:
        """Rewards of the responses of each tree; a ValueError for one longer than the context."""
        for number, tree in enumerate(trees):
            if tree.reach > self.context:
                raise ValueError(
                    f"answers to prompt {number} take {tree.reach:,} tokens with it, more than the reward model's "
                    f"context of {self.context:,}; shorten them"
                )
        scores: list[list[float]] = [[] for _ in trees]
        sizes = [tree.size for tree in trees]
        for portion in portions(sizes, READ_TOKENS):
            length = room_for(sizes[n] for n in portion)
            rows = [[portion[n] for n in row] for row in packed(np.array([sizes[n] for n in portion]), length)]
            branches = lay_out([[trees[n] for n in row] for row in rows], length)
            rewards = iter(self.rewards(branches.to(self.score.device)).tolist())
            for number in (n for row in rows for n in row):
                scores[number] = [next(rewards) for _ in trees[number].responses]
        return scores

    def score_answers(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float]:
        """The reward of each answer to its prompt; a prompt that stands several times is read once."""
        groups: dict[tuple[Message, ...], list[int]] = {}
        for number, prompt in enumerate(prompts):
            groups.setdefault(tuple(prompt), []).append(number)
        trees = [self.tree(prompt, [answers[n] for n in numbers]) for prompt, numbers in groups.items()]
        found = [0.0] * len(prompts)
        for numbers, rewards in zip(groups.values(), self.score_trees(trees), strict=True):
            for number, reward in zip(numbers, rewards, strict=True):
                found[number] = reward
        return found
