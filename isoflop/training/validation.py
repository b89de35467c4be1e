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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader, document_ids
from isoflop.training.config import TrainConfig
from isoflop.training.loss import cross_entropy
from isoflop.training.pipeline import pass_through
from isoflop.training.ranks import Ranks

LOSS, BPB = "validation_loss", "validation_bpb"


@dataclass(frozen=True)
class Validation:
    """Fixed sequences (count, context + 1), the UTF-8 bytes their targets stand for, and tokens per forward pass.

    With ``bos`` documents, which begin with it, do not see each other.
    """

    tokens: Tensor
    text_bytes: int
    micro_tokens: int
    bos: int | None = None

    @classmethod
    def build(cls, dataset: TokenDataset, config: TrainConfig) -> Validation:
        """The fixed sample that a config asks for; a whole number of equal batches, so that one graph serves."""
        tokens = config.validation_tokens // len(config.sources)
        sample = cls.of(dataset, "validation", tokens, config.shape.context, config.micro_tokens)
        return replace(sample, bos=dataset.tokenizer.bos) if config.document_mask else sample

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
        device = next(model.parameters()).device
        total = torch.zeros((), dtype=torch.float64, device=device)
        batches = torch.split(sequences, max(1, self.micro_tokens // context))
        for batch, weight in ranks.deal(batches):
            tokens = batch.to(device)
            documents = None if self.bos is None else document_ids(tokens[:, :-1], self.bos)
            hidden = pass_through(model, tokens[:, :-1], documents).detach()
            if model.spread.last:
                targets = model.spread.local(tokens[:, 1:])
                with torch.no_grad():
                    loss = cross_entropy(hidden, model.head, targets, cap=model.shape.logit_cap, spread=model.spread)
                    total += weight * loss
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
