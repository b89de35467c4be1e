"""``plan``: what to train with a budget, what it will cost, and whether it fits, before anything is spent.

    >>> from isoflop.planning import Question, plan
    >>> answer = plan(Question("64 H100 x 30 days", served=2e12))
    >>> answer.config, answer.memory, answer.cost

A question becomes an answer in one pass down the page: budget, law and limits give parameters and tokens
(:mod:`.allocation`), these a real architecture (:mod:`.architecture`), its schedule (:mod:`.recipe`), and its place on
hardware (:mod:`.placement`). The answer is a value; showing it is the business of others. Some tens of milliseconds.
Left out: the choice of the data mixture, and failures of hardware.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from isoflop.laws import Allocation
from isoflop.planning.allocation import Alternative, Choice, Limits, allocate, alternatives, cheapest_over_life
from isoflop.planning.architecture import Architecture, architecture
from isoflop.planning.duration import Budget, Cost
from isoflop.planning.evidence import DEFAULT, Estimate, Evidence, evidence, published
from isoflop.planning.hyperparameters import context_for, vocabulary_for
from isoflop.planning.machine import Machine
from isoflop.planning.memory import TrainingMemory
from isoflop.planning.placement import Placement, Serving, largest_that_fits, place, serving_device
from isoflop.planning.recipe import Recipe, Rule, published_rules, recipe
from isoflop.planning.resources import Resources, budget_of
from isoflop.planning.shape import Shape, human


@dataclass(frozen=True)
class Question:
    """What is asked of the planner. Only the budget has to be given.

    Attributes:
        budget: FLOPs, or text as :func:`isoflop.planning.duration.parse_budget` reads it.
        law: a published law's name, or a file that ``isoflop fit --save`` wrote.
        unique: different tokens at hand, and ``epochs`` the passes over them at most.
        served: tokens that the model will serve over its life; the budget then pays for training and serving.
        fits: the device, or gigabytes ("24 GB"), that must hold the model for inference, in ``fits_in`` weights.
        params: a given size, all parameters counted.
        tokens: given training tokens.
        context: tokens that a model sees at once in training; ``long_context`` what it grows to before annealing.
        vocab: vocabulary.
        device: what it is trained on, and ``devices`` how many; ``mfu`` and ``price`` overrule what is estimated.
        first_batch: the first batch of the sweep whose rules the run shares.
        seed: of every draw.
    """

    budget: str | float
    law: str = DEFAULT
    unique: float | None = None
    epochs: float = 4.0
    served: float = 0.0
    fits: str | None = None
    fits_in: str = "bf16"
    params: float | None = None
    tokens: float | None = None
    context: int | None = None
    long_context: int | None = None
    vocab: int | None = None
    device: str | None = None
    devices: int | None = None
    mfu: float | None = None
    price: float | None = None
    first_batch: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Reading:
    """What one law says of the budget: its own optimum, the loss there, and the loss of the planned model.

    Losses of different laws are about different texts and tokenizers; only their optima may be compared.
    """

    name: str
    N: Estimate
    D: float
    loss: float | None
    loss_of_plan: float | None
    counts: str
    verified: bool


@dataclass(frozen=True)
class Plan:
    """The answer: a model, its tokens and its loss, and everything that follows.

    ``loss`` is None where the law knows none. ``placement`` is None where nothing is known of the hardware,
    ``serving`` where no device has to hold the model.
    """

    question: Question
    budget: Budget
    law: Evidence
    choice: Choice
    best_size: Estimate
    architecture: Architecture
    recipe: Recipe
    loss: Estimate | None
    alternatives: tuple[Alternative, ...]
    over_life: Allocation | None
    readings: tuple[Reading, ...]
    rules: tuple[Rule, ...]
    placement: Placement | None
    serving: Serving | None
    notes: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """The model."""
        return self.architecture.shape

    @property
    def tokens(self) -> int:
        """Its training tokens, whole batches."""
        return self.recipe.tokens

    @property
    def memory(self) -> TrainingMemory | None:
        """Memory of one device in training, by part."""
        return self.placement.memory if self.placement else None

    @property
    def cost(self) -> Cost | None:
        """Time, energy and money."""
        return self.placement.cost if self.placement else None

    @property
    def config(self) -> dict[str, Any]:
        """The config.toml that ``isoflop train`` runs; the data's folder is to be filled in where it differs."""
        return self.config_for("../tokens")

    def config_for(self, data: str, **more: Any) -> dict[str, Any]:
        """The same over the tokens in a folder, with further keys."""
        placed = self.placement.settings if self.placement else {}
        return self.recipe.config(self.shape, data, seed=self.question.seed, **(placed | more))

    def to_json(self) -> dict[str, Any]:
        """The whole answer as plain values; ``predicted_loss`` and ``interval_95`` are what a run is scored by."""
        loss = self.loss
        return {
            "question": asdict(self.question),
            "budget": self.budget.to_json(),
            "law": {"name": self.law.name, "meaning": self.law.meaning, "counts": self.law.counts},
            "N_law": self.shape.count(self.law.counts),
            "tokens": self.tokens,
            "tokens_per_parameter": self.tokens / self.shape.count(self.law.counts),
            "best_size": asdict(self.best_size),
            "predicted_loss": None if loss is None else loss.value,
            "interval_95": None if loss is None or loss.interval is None else list(loss.interval),
            "choice": asdict(self.choice),
            "architecture": self.architecture.to_json(),
            "alternatives": [asdict(a) for a in self.alternatives],
            "over_life": None if self.over_life is None else asdict(self.over_life),
            "readings": [asdict(r) for r in self.readings],
            "recipe": self.recipe.to_json(),
            "rules": [asdict(r) for r in self.rules],
            "placement": None if self.placement is None else self.placement.to_json(),
            "serving": None if self.serving is None else self.serving.to_json(),
            "notes": list(self.notes),
        }


def plan(question: Question, law: Evidence | None = None, machine: Machine | None = None) -> Plan:
    """Answer a question. ``law`` overrules its law's name (a sweep's, say); ``machine`` is this one, if measured.

    Raises ValueError, with what binds and the nearest that is possible, for a question that has no answer.
    """
    law = law or evidence(question.law, question.seed)
    resources = Resources.of(question.budget, question.device, question.devices, machine)
    budget = budget_of(question, law, resources)
    vocab = question.vocab or vocabulary_for(budget.flops)
    context = question.context or context_for(budget.flops)
    longest = question.long_context or context
    serving = serving_device(question.fits, question.fits_in)
    limits = limits_of(question, law, vocab, longest, serving)
    choice = allocate(law, budget.flops, limits)
    built = architecture(choice.N, vocab, context=longest, counts=law.counts)
    tokens = tokens_for(choice, built.shape.count(law.counts), limits)
    schedule = recipe(built.shape, tokens, first_context=context, first_batch=question.first_batch)
    loss = law.loss(built.shape.count(law.counts), schedule.tokens, limits.fresh)
    return Plan(
        question=question,
        budget=budget,
        law=law,
        choice=choice,
        best_size=law.best_size(budget.flops),
        architecture=built,
        recipe=schedule,
        loss=loss,
        alternatives=alternatives(law, choice, limits),
        over_life=cheapest_over_life(law, choice),
        readings=tuple(readings(law, budget.flops, built.shape, schedule.tokens, question.seed)),
        rules=published_rules(built.shape, schedule.tokens, loss.value if loss else None),
        placement=place(built.shape, schedule, resources, question.mfu, question.price),
        serving=serving.holding(built.shape) if serving else None,
        notes=tuple(notes(question, law, choice, limits, vocab)),
    )


def limits_of(question: Question, law: Evidence, vocab: int, context: int, serving: Serving | None) -> Limits:
    """The question's limits, with sizes counted as the law counts them."""
    most, reason = None, ""
    if serving is not None:
        most = float(largest_that_fits(serving, vocab, context).count(law.counts))
        reason = f"it must fit {serving.where} with {serving.weights} weights and {context:,} tokens of context"
    params = None
    if question.params is not None:
        if not 0 < question.params < math.inf:
            raise ValueError(f"a model of {question.params:g} parameters is none; give a positive number")
        params = float(architecture(question.params, vocab, context=context, counts="total").shape.count(law.counts))
    return Limits(
        unique=question.unique,
        epochs=question.epochs,
        served=question.served,
        most_params=most,
        most_reason=reason,
        params=params,
        tokens=question.tokens,
    )


def tokens_for(choice: Choice, N: float, limits: Limits) -> float:
    """Training tokens once the size has snapped to a real shape: the FLOPs stay, as far as the limits allow."""
    if limits.tokens:
        return limits.tokens
    return min(choice.training / 6 / N, limits.most_tokens)


def readings(law: Evidence, C: float, shape: Shape, tokens: float, seed: int) -> Iterator[Reading]:
    """The law at hand and all published ones, at the same budget."""
    for each in [law, *(other for name, other in published(seed).items() if name != law.name)]:
        N = each.best_size(C)
        surface = each.surface
        at_best = None if surface is None else each.point(N.value, C / 6 / N.value)
        of_plan = None if surface is None else each.point(shape.count(each.counts), tokens)
        yield Reading(each.name, N, C / 6 / N.value, at_best, of_plan, each.counts, each.verified)


def notes(question: Question, law: Evidence, choice: Choice, limits: Limits, vocab: int) -> Iterator[str]:
    """What should be known before the answer is believed."""
    yield from law.remarks(choice.C)
    if limits.unique is not None and limits.fresh < choice.D:
        yield (
            "repeats, and parameters too many for them, are priced by Muennighoff et al. 2023 with its R_D of 15.4; "
            "its runs leave anything above 5.7 open, which the interval holds"
        )
    if vocab % 128 and vocab > 2048:
        yield f"a vocabulary of {vocab:,} is no multiple of 128; {-(-vocab // 128) * 128:,} runs better on GPUs"
    if question.params is not None:
        yield f"sizes come in steps: {human(question.params)} was asked for"
