"""What a step descends: cross-entropy to the tokens, a teacher's distributions beside or instead of them, z-loss.

One object that knows a run's terms, so that a step asks it and nothing else. With none of them set it is the plain
cross-entropy, bit by bit. What a run reports as its loss is that cross-entropy always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.tokens import packing
from isoflop.tokens.blended import BlendedLoader
from isoflop.tokens.dataset import TokenDataset
from isoflop.training.config import TrainConfig
from isoflop.training.lessons import Cached
from isoflop.training.loss import Terms, losses
from isoflop.training.parts import Identity
from isoflop.training.teacher import OTHER_TEACHER, Lessons, Live, Scholar


@dataclass(frozen=True)
class Objective:
    """The terms of a run's objective, and its teacher if it has one."""

    terms: Terms
    padded: bool
    teacher: Scholar | None = None
    lessons: Lessons | None = None

    @classmethod
    def build(
        cls,
        config: TrainConfig,
        folder: Path,
        datasets: Mapping[str, TokenDataset],
        loaders: Mapping[int, BlendedLoader],
        model: Llama,
    ) -> Objective:
        """What the config of the run in ``folder`` asks for; a teacher is loaded beside ``model``, the student."""
        padded, wish = config.packing == "fit", config.teacher
        if wish is None:
            return cls(Terms(config.z_loss, config.shape.logit_cap), padded)
        terms = Terms(config.z_loss, config.shape.logit_cap, wish.weight, wish.temperature)
        teacher = Scholar.find(config, folder, datasets)
        lessons: Lessons
        if wish.top_k:
            lessons = Cached.open(config, datasets, loaders, teacher)
        else:
            lessons = Live(teacher.load(model.embedding.device, model.compute, compiled=model.compiled))
        return cls(terms, padded, teacher, lessons)

    def __call__(
        self,
        model: Llama,
        hidden: Tensor,
        tokens: Tensor,
        first: int,
        documents: Tensor | None = None,
        each: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Summed objective and cross-entropy of ``model``'s final states over sequences (rows, context + 1).

        ``first`` is the number of the first of these samples in the run; ``documents`` (rows, context) are what the
        states were made with; ``each`` (rows, context) is filled with every target's cross-entropy.
        """
        taught = self.lessons(packing.inputs(tokens[:, :-1]), first, documents) if self.lessons else None
        return losses(
            hidden,
            model.head,
            model.spread.local(tokens[:, 1:]),
            fast=model.compiled,
            padded=self.padded,
            terms=self.terms,
            taught=taught,
            spread=model.spread,
            each=each,
        )

    @property
    def identity(self) -> dict[str, Identity]:
        """The part of a checkpoint that says who taught, if anybody does."""
        return {"teacher": Identity(self.teacher.fingerprint, OTHER_TEACHER)} if self.teacher else {}

    def flops(self, config: TrainConfig, tokens: int) -> float:
        """What the teacher cost over the first ``tokens`` tokens of a run: one forward pass over each.

        From a cache too, although students that share one share the cost.
        """
        if self.teacher is None:
            return 0.0
        stages = config.contexts.stages(0, tokens)
        return float(sum(self.teacher.flops(stage.value) * int(stage.end - stage.start) for stage in stages))
