"""Validation: nats per token and bits per byte on a fixed sample of held-out documents.

The sample is the same for every run over the same tokens, whatever its seed, so that differences between runs are
differences between models. It is cut into sequences of the longest context; at a shorter one the same targets are
predicted from fewer tokens, so that within a run validations differ by the model and its context alone.

Of a mixture every source has such a sample, all of one size and none depending on the weights, so that a source's loss
compares between mixtures. The run's own ``validation_loss`` is their mean in the shares of its last blend: nats per
token of the stream that training ends with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader
from isoflop.training.config import TrainConfig
from isoflop.training.loss import cross_entropy
from isoflop.training.ranks import Ranks

LOSS, BPB = "validation_loss", "validation_bpb"


@dataclass(frozen=True)
class Validation:
    """Fixed sequences (count, context + 1), the UTF-8 bytes their targets stand for, and tokens per forward pass."""

    tokens: Tensor
    text_bytes: int
    micro_tokens: int

    @classmethod
    def build(cls, dataset: TokenDataset, config: TrainConfig) -> Validation:
        """The fixed sample that a config asks for; a whole number of equal batches, so that one graph serves."""
        tokens = config.validation_tokens // len(config.sources)
        return cls.of(dataset, "validation", tokens, config.shape.context, config.micro_tokens)

    @classmethod
    def of(cls, dataset: TokenDataset, split: str, tokens: int, context: int, micro_tokens: int) -> Validation:
        """At most, and one sequence at least, ``tokens`` tokens of a split, spread evenly over it."""
        loader = Loader(dataset, split, context)
        wanted = min(max(1, tokens // context), loader.samples_per_epoch)
        rows = min(max(1, micro_tokens // context), wanted)
        fixed = loader.sequential(wanted // rows * rows)
        return cls(torch.from_numpy(fixed.tokens), fixed.text_bytes, micro_tokens)

    def measure(self, model: Llama, ranks: Ranks, context: int | None = None) -> dict[str, float]:
        """Mean loss in nats per token, and bits per byte, of ``model`` on the sample, which the ranks share.

        ``context`` is the length to predict from, the sample's own or one that divides it.

        The network runs as in training, gradients enabled, so that the compiled graph at hand serves: compiling another
        for a few passes costs more than it saves.
        """
        context = context or self.tokens.shape[1] - 1
        sequences = self.tokens.unfold(1, context + 1, context).flatten(0, 1)
        device = model.embedding.device
        total = torch.zeros((), dtype=torch.float64, device=device)
        batches = torch.split(sequences, max(1, self.micro_tokens // context))
        for batch in batches[slice(*ranks.share(0, len(batches)))]:
            tokens = batch.to(device)
            hidden = model.hidden(tokens[:, :-1]).detach()
            with torch.no_grad():
                total += cross_entropy(hidden, model.head, tokens[:, 1:], cap=model.shape.logit_cap)
        ranks.add(total)
        nats = float(total)
        count = sequences[:, 1:].numel()
        return {LOSS: nats / count, BPB: nats / math.log(2) / self.text_bytes}

    @property
    def bytes_per_target(self) -> float:
        """UTF-8 bytes that a target of the sample stands for."""
        return self.text_bytes / self.tokens[:, 1:].numel()


@dataclass(frozen=True)
class BlendedValidation:
    """The samples of a mixture's sources, and each source's share in the mean."""

    samples: dict[str, Validation]
    shares: dict[str, float]

    @classmethod
    def build(cls, datasets: Mapping[str, TokenDataset], config: TrainConfig) -> BlendedValidation:
        """A sample of each source, together as large as the config asks for."""
        return cls({name: Validation.build(dataset, config) for name, dataset in datasets.items()}, config.blends.final)

    def measure(self, model: Llama, ranks: Ranks, context: int | None = None) -> dict[str, float]:
        """Loss and bits per byte of the mixture, and as ``validation_loss/SOURCE`` and so on of each source.

        A mixture's bits per byte are those of a stream with the shares' tokens: nats over bytes, not a mean of ratios.
        """
        found = {name: sample.measure(model, ranks, context) for name, sample in self.samples.items()}
        nats = sum(share * found[name][LOSS] for name, share in self.shares.items())
        text = sum(share * self.samples[name].bytes_per_target for name, share in self.shares.items())
        by_source = {f"{key}/{name}": value for name, measured in found.items() for key, value in measured.items()}
        return {LOSS: nats, BPB: nats / math.log(2) / text} | by_source
