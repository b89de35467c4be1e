"""``plan``: what to train with a budget, what it will cost, and whether it fits, before anything is spent.

    >>> from isoflop.planning import Question, plan
    >>> answer = plan(Question("64 H100 x 30 days", served=2e12))
    >>> answer.config, answer.memory, answer.cost

A question becomes an answer in one pass down the page: budget, law and limits give parameters and tokens
(:mod:`.allocation`), these a real architecture (:mod:`.architecture`), its schedule (:mod:`.recipe`), and its place on
hardware (:mod:`.placement`). The answer is a value; showing it is the business of others. A few tenths of a second.
Left out: the choice of the data mixture, and failures of hardware.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from isoflop.laws import Allocation
from isoflop.laws.forms.surface import reach
from isoflop.planning.allocation import Alternative, Choice, Limits, allocate, alternatives, cheapest_over_life
from isoflop.planning.architecture import Architecture, Flops, architecture
from isoflop.planning.duration import HOUR, USUAL_MFU, Budget, Cost, device_hours, parse_budget, seconds_here, share
from isoflop.planning.evidence import DEFAULT, Estimate, Evidence, evidence, published
from isoflop.planning.hyperparameters import context_for, vocabulary_for
from isoflop.planning.ladder import smallest
from isoflop.planning.machine import Machine
from isoflop.planning.memory import TrainingMemory
from isoflop.planning.placement import Placement, phases, place, whole
from isoflop.planning.recipe import Recipe, Rule, published_rules, recipe
from isoflop.planning.resources import Resources
from isoflop.planning.serving import Serving
from isoflop.planning.shape import Shape, human
from isoflop.progress import spoken

SENSIBLE = (1e9, 1e29)
"""FLOPs for which a law may still mean something."""
TRIES = 12
"""Budgets that are tried for a time on hardware, aiming at ``AIM`` of it and content with more than ``NEAR``."""
AIM, NEAR = 0.985, 0.96
LEAST_SHARE = 1.5
"""A best size may lie below the smallest Llama by this factor: the curve is flat there, and it is taken instead."""


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

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant, saying which."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ValueError(f"{name.replace('_', ' ')} is {value:g}; give at least {least:g}")
        if self.price is not None and not 0 < self.price < math.inf:
            raise ValueError(f"a price of ${self.price:g} a device-hour is none; give a positive one")
        if self.mfu is not None:
            share(self.mfu)
        if self.fits is None and self.fits_in != "bf16":
            raise ValueError(f"weights in {self.fits_in} must fit something; say what, such as --fits '24 GB'")


LEAST = {"vocab": 257, "context": 16, "long_context": 16, "devices": 1, "seed": 0}
"""The least of a few numbers: a byte-level vocabulary has 256 bytes and an end of text."""


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

    ``loss`` is None where the law knows none. ``placements`` are those of its
    stages of context, none where nothing is known of the hardware; ``serving`` is None where no device has to hold it.
    """

    question: Question
    budget: Budget
    law: Evidence
    limits: Limits
    choice: Choice
    best_size: Estimate
    architecture: Architecture
    recipe: Recipe
    loss: Estimate | None
    alternatives: tuple[Alternative, ...]
    over_life: Allocation | None
    readings: tuple[Reading, ...]
    rules: tuple[Rule, ...]
    placements: tuple[Placement, ...]
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
    def flops(self) -> Flops:
        """Exact training FLOPs of the run by where they are spent, attention at each stage's context."""
        per_token = self.architecture.flops_per_token
        linear, output = (float(part) * self.tokens for part in (per_token.linear, per_token.output))
        return Flops(linear, self.recipe.flops(self.shape) - linear - output, output)

    @property
    def memory(self) -> TrainingMemory | None:
        """Memory of the fullest device in training, by part."""
        return max((p.memory for p in self.placements), key=lambda memory: memory.total, default=None)

    @property
    def cost(self) -> Cost | None:
        """Time, energy and money."""
        return whole(self.placements)

    @property
    def config(self) -> dict[str, Any]:
        """The config.toml that ``isoflop train`` runs; the data's folder is to be filled in where it differs."""
        return self.config_for("../tokens")

    def config_for(self, data: str, **more: Any) -> dict[str, Any]:
        """The same over the tokens in a folder, with further keys."""
        placed = self.placements[0].settings if self.placements else {}
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
            "flops": asdict(self.flops)
            | {"total": self.flops.total, "6ND": 6 * self.shape.count(self.law.counts) * self.tokens},
            "alternatives": [asdict(a) for a in self.alternatives],
            "over_life": None if self.over_life is None else asdict(self.over_life),
            "readings": [asdict(r) for r in self.readings],
            "recipe": self.recipe.to_json(),
            "rules": [asdict(r) for r in self.rules],
            "placements": [placement.to_json() for placement in self.placements],
            "cost": None if self.cost is None else self.cost.to_json(),
            "serving": None if self.serving is None else self.serving.to_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Draft:
    """What follows from a question and a number of FLOPs, before hardware is looked at."""

    limits: Limits
    choice: Choice
    architecture: Architecture
    recipe: Recipe


def plan(question: Question, law: Evidence | None = None, machine: Machine | None = None) -> Plan:
    """Answer a question. ``law`` overrules its law's name (a sweep's, say); ``machine`` is this one, if measured.

    Raises ValueError, with what binds and the nearest that is possible, for a question that has no answer.
    """
    law = law or evidence(question.law, question.seed)
    budget, resources = means(question, law, machine)
    drawn = draft(question, law, budget.flops, resources)
    choice, built, schedule = drawn.choice, drawn.architecture, drawn.recipe
    loss = law.loss(built.shape.count(law.counts), schedule.tokens, drawn.limits.fresh)
    holder = serving(question)
    return Plan(
        question=question,
        budget=budget,
        law=law,
        limits=drawn.limits,
        choice=choice,
        best_size=law.best_size(budget.flops),
        architecture=built,
        recipe=schedule,
        loss=loss,
        alternatives=alternatives(law, choice, drawn.limits),
        over_life=cheapest_over_life(law, choice),
        readings=tuple(readings(law, budget.flops, built.shape, schedule.tokens, drawn.limits, question.seed)),
        rules=published_rules(built.shape, schedule.tokens, loss.value if loss else None),
        placements=place(built.shape, schedule, resources, *terms(question, budget)),
        serving=None if holder is None else holder.holding(built.shape),
        notes=tuple(notes(question, law, budget, drawn, resources)),
    )


def means(question: Question, law: Evidence, machine: Machine | None) -> tuple[Budget, Resources]:
    """The budget in FLOPs and what it is spent on; time on hardware is the FLOPs that are predicted to fit into it."""
    text = str(question.budget)
    wanted = seconds_here(text)
    if wanted is not None:
        on = Resources.of(None, None, None, machine)
        flops = within(question, law, on, wanted / HOUR * (on.devices or 1))
        return Budget(flops, text, f"what this machine trains in {spoken(wanted)}, as it was measured"), on
    budget = parse_budget(text, price=question.price, mfu=USUAL_MFU if question.mfu is None else question.mfu)
    if not SENSIBLE[0] <= budget.flops <= SENSIBLE[1]:
        raise ValueError(
            f"{budget.flops:.3g} FLOPs is far outside what any law saw; give from {SENSIBLE[0]:g} to {SENSIBLE[1]:g}"
        )
    on = Resources.of(budget, question.device, question.devices, machine)
    same = on.device is not None and on.device.name == budget.device
    if budget.device_hours is None or not same:
        return budget, on
    known, _ = terms(question, budget)
    flops = within(question, law, on, budget.device_hours, budget.flops, known)
    rate = "as given" if known else "as predicted"
    how = f"{text.split(' at ')[0].strip()}: {budget.device_hours:,.6g} {budget.device}-hours, at an MFU {rate}"
    return replace(budget, flops=flops, how=how, mfu=known), on


def terms(question: Question, budget: Budget) -> tuple[float | None, float | None]:
    """The MFU and the price that were given, with the question or in the budget's text; None where none was."""
    mfu = question.mfu if question.mfu is not None or not budget.mfu_given else budget.mfu
    return mfu, budget.price if question.price is None else question.price


def within(
    question: Question,
    law: Evidence,
    on: Resources,
    wanted: float,
    guess: float | None = None,
    mfu: float | None = None,
) -> float:
    """The FLOPs of a run that is predicted to take about ``wanted`` device-hours, and no more.

    Sizes come in steps, so that the answer may fall short by some percent. Raises ValueError where even the smallest
    model takes longer.
    """
    assert on.device is not None
    C = guess or wanted * HOUR * on.device.rate(on.dtype) * USUAL_MFU
    best, low, high = None, 0.0, math.inf
    for _ in range(TRIES):
        try:
            takes = hours_on(draft(question, law, C, on), on, mfu)
        except TooSmallError:
            takes = 0.0
        if takes > wanted:
            high = C
        elif takes:
            low, best = C, max(best or 0.0, C)
            if takes > NEAR * wanted:
                break
        else:
            low = C
        C *= min(max(AIM * wanted / takes, 0.1), 10.0) if takes else 10.0
        if not low < C < high:
            C = math.sqrt(low * high) if low else high / 3
    if best is None:
        time = spoken(wanted * HOUR / (on.devices or 1 if on.local else 1))
        raise ValueError(f"{time} are too few on {on.device.name} to train even the smallest model; give more time")
    return best


def hours_on(drawn: Draft, on: Resources, mfu: float | None) -> float:
    """Device-hours of a draft on its fastest layouts; infinite where one does not fit."""
    assert on.device is not None
    if mfu is not None:
        return device_hours(drawn.recipe.flops(drawn.architecture.shape), on.device.rate(on.dtype), mfu)
    total = 0.0
    jobs = list(phases(drawn.architecture.shape, drawn.recipe, on))
    count = on.devices or max(job.fewest() for job in jobs)
    for job in jobs:
        found = job.fastest(count)
        total += math.inf if found is None else job.seconds(found[0]) * count / HOUR
    return total


def draft(question: Question, law: Evidence, C: float, on: Resources) -> Draft:
    """Limits, allocation, architecture and schedule for C FLOPs."""
    vocab = vocabulary_for(C) if question.vocab is None else question.vocab
    context = context_for(C) if question.context is None else question.context
    longest = context if question.long_context is None else question.long_context
    limits = limits_of(question, law, vocab, longest)
    choice = allocate(law, C, limits)
    refuse_too_small(choice, law, vocab, longest)
    most = limits.most_params or math.inf
    built = architecture(choice.N, vocab, context=longest, counts=law.counts, most=most)
    tokens = tokens_for(choice, built.shape.count(law.counts), limits)
    first, devices = question.first_batch, on.devices or 1
    schedule = recipe(built.shape, tokens, first_context=context, first_batch=first, devices=devices)
    return Draft(limits, choice, built, schedule)


class TooSmallError(ValueError):
    """A budget whose best model is below the smallest Llama."""


def refuse_too_small(choice: Choice, law: Evidence, vocab: int, context: int) -> None:
    """Raise TooSmallError for a choice below the ladder's smallest model, saying which budget would be enough."""
    least = smallest(vocab, context=context).count(law.counts)
    if least <= choice.N * LEAST_SHARE:
        return
    if choice.served:
        raise TooSmallError(
            f"serving {human(choice.served)} tokens leaves the budget of {choice.C:.3g} FLOPs room for {choice.N:.3g} "
            f"parameters only, fewer than the smallest Llama's {human(least)}; serve fewer, or give a larger budget"
        )
    enough = reach(lambda C: np.array([-law.optimum(float(c)) for c in np.atleast_1d(C)]), -least, 1e3, 1e30)
    raise TooSmallError(
        f"{choice.C:.3g} FLOPs are too few: the best model for them has {human(choice.N)} parameters, and the "
        f"smallest Llama with a vocabulary of {vocab:,} has {human(least)}; give about {enough:.2g} FLOPs, or a "
        f"smaller vocabulary"
    )


def serving(question: Question) -> Serving | None:
    """What must hold the model for inference, if anything."""
    return None if question.fits is None else Serving.on(question.fits, question.fits_in)


def limits_of(question: Question, law: Evidence, vocab: int, context: int) -> Limits:
    """The question's limits, with sizes counted as the law counts them."""
    most, reason, holder = None, "", serving(question)
    if holder is not None:
        most = float(holder.largest(vocab, context).count(law.counts))
        reason = f"it must fit {holder.where} with {holder.weights} weights and {context:,} tokens of context"
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


def readings(law: Evidence, C: float, shape: Shape, tokens: float, limits: Limits, seed: int) -> Iterator[Reading]:
    """The law at hand and all published ones, at the same budget; repeats cost the plan the same under all of them."""
    for each in [law, *(other for name, other in published(seed).items() if name != law.name)]:
        N = each.best_size(C)
        at_best = of_plan = None
        if each.surface is not None:
            at_best = each.point(N.value, C / 6 / N.value)
            of_plan = each.limited(shape.count(each.counts), tokens, limits.fresh)
        yield Reading(each.name, N, C / 6 / N.value, at_best, of_plan, each.counts, each.verified)


def notes(question: Question, law: Evidence, budget: Budget, drawn: Draft, on: Resources) -> Iterator[str]:
    """What should be known before the answer is believed."""
    choice, limits, vocab = drawn.choice, drawn.limits, drawn.architecture.shape.vocab
    yield from law.remarks(choice.C)
    if on.device is None:
        yield "no hardware is named: give --device, or measure this machine once with isoflop plan --calibrate"
    if budget.devices is not None and (on.devices, on.device and on.device.name) != (budget.devices, budget.device):
        yield f"the budget is that of {budget.devices:,} {budget.device}; it is spent on what was named instead"
    if limits.unique is not None and limits.fresh < choice.D:
        yield (
            "repeats, and parameters too many for them, are priced by Muennighoff et al. 2023 with its R_D of 15.4; "
            "its runs leave anything above 5.7 open, which the interval holds"
        )
    if vocab % 128 and vocab > 2048:
        yield f"a vocabulary of {vocab:,} is no multiple of 128; {-(-vocab // 128) * 128:,} runs better on GPUs"
    if question.params is not None:
        yield f"sizes come in steps: {human(question.params)} was asked for"
