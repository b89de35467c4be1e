"""What a person asks of a search, and the config that follows: tokens counted, targets found, sizes from minutes.

A target is the name of a source, which means its validation documents, or another prepared folder, all of which is held
out: its larger split is measured. Folders must share one tokenizer, or nats per token could not be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isoflop import config as configuration
from isoflop.mixing.layout import CONFIG
from isoflop.mixing.settings import Domain, HeldOut, MixConfig
from isoflop.planning.hyperparameters import context_for, first_batch_for
from isoflop.planning.ladder import smallest
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.dataset import TokenDataset
from isoflop.training.speed import Speed

TOKENS_PER_PARAMETER = 20.0
"""Of a proxy, where nothing else is said."""
FEWEST_STEPS = 100
"""Steps below which a proxy has learnt nothing that could tell mixtures apart."""
PARAMETERS = 2e5
OVERHEAD_SECONDS = 3.0
"""Of a proxy: opening, measuring, saving."""
FORWARD = 3.0
"""A forward pass costs a third of a training step."""
START_SECONDS = 15.0
"""Of a worker and of the answer: imports, fits."""


@dataclass(frozen=True)
class Request:
    """What was asked for. ``sources`` are folders by name; ``target`` shares by source name or folder.

    Of ``parameters``, ``tokens`` and ``minutes`` any may be left out: minutes give the largest proxies that fit, with
    twenty tokens per parameter. ``target_tokens`` defaults to one pass over everything.
    """

    sources: dict[str, str]
    target: dict[str, float]
    proxies: int = 32
    parameters: float | None = None
    tokens: float | None = None
    minutes: float | None = None
    target_tokens: float | None = None
    context: int | None = None
    epochs: float = 4.0
    strength: float = 0.05
    prior: Literal["natural", "uniform"] = "natural"
    seed: int = 0


def resolve(request: Request, folder: Path, workers: Sequence[int], notes: Path | None = None) -> MixConfig:
    """The search of a request in ``folder``, on these processors; measures this machine if minutes are given.

    What was measured is kept in ``notes``, by default the folder. A search that has begun keeps the sizes that were
    derived for it. Raises ValueError for folders that are not prepared corpora, that do not share a tokenizer, and for
    too little time.
    """
    opened = {name: TokenDataset.open(data) for name, data in request.sources.items()}
    held_out, targets = find_targets(request, opened)
    check_tokenizers(opened | targets)
    domains = tuple(
        Domain(name, str(data.folder.resolve()), data.split("train").tokens) for name, data in opened.items()
    )
    vocab = next(iter(opened.values())).tokenizer.vocab_size
    parameters, tokens, context = sizes(request, folder, vocab, workers, notes or folder)
    return MixConfig(
        domains,
        held_out,
        vocab,
        parameters,
        int(tokens),
        request.target_tokens or float(sum(domain.available for domain in domains)),
        context,
        request.proxies,
        request.epochs,
        request.strength,
        request.prior,
        seed=request.seed,
    )


def find_targets(
    request: Request, opened: dict[str, TokenDataset]
) -> tuple[tuple[HeldOut, ...], dict[str, TokenDataset]]:
    """All that is measured, the sources' validation documents first, and the folders that are no sources."""
    if not request.target or min(request.target.values()) <= 0:
        raise ValueError(f"the target needs shares above 0 of one or more texts, not {request.target}")
    total = sum(request.target.values())
    shares, found, others = dict.fromkeys(opened, 0.0), [], {}
    for name, share in request.target.items():
        if name in opened:
            shares[name] += share / total
            continue
        dataset = open_target(name, opened)
        larger = dataset.split("train").tokens >= dataset.split("validation").tokens
        others[name] = dataset
        found.append(
            HeldOut(Path(name).name, str(dataset.folder.resolve()), "train" if larger else "validation", share / total)
        )
    own = [HeldOut(name, str(opened[name].folder.resolve()), "validation", share) for name, share in shares.items()]
    names = [text.name for text in (*own, *found)]
    if len(set(names)) < len(names):
        raise ValueError(f"two held-out texts have one name among {', '.join(names)}; rename a folder or a source")
    return (*own, *found), others


def open_target(folder: str, opened: dict[str, TokenDataset]) -> TokenDataset:
    """A held-out folder; one that is a source by another name is refused, as proxies train on it."""
    if not Path(folder).exists():
        raise ValueError(f"the target {folder!r} is neither a source ({', '.join(opened)}) nor a folder")
    dataset = TokenDataset.open(folder)
    for name, source in opened.items():
        if source.manifest.fingerprint == dataset.manifest.fingerprint:
            raise ValueError(f"the target {folder} is the source {name}: name that, for its held-out documents")
    return dataset


def check_tokenizers(datasets: dict[str, TokenDataset]) -> None:
    """Refuse folders whose tokenizers differ."""
    (first, one), *others = datasets.items()
    for name, other in others:
        if other.manifest.tokenizer_checksum != one.manifest.tokenizer_checksum:
            raise ValueError(
                f"{first} and {name} were prepared with different tokenizers: prepare one of them with "
                f"--tokenizer {one.folder / 'tokenizer.json'}"
            )


def sizes(request: Request, folder: Path, vocab: int, workers: Sequence[int], notes: Path) -> tuple[float, float, int]:
    """Parameters, tokens and context of a proxy."""
    if (folder / CONFIG).exists():
        begun = configuration.load(MixConfig, folder / CONFIG)
        derived = begun.parameters, float(begun.tokens), begun.context
        asked = request.parameters, request.tokens, request.context
        parameters, tokens, context = (old if new is None else new for new, old in zip(asked, derived, strict=True))
        return parameters, tokens, int(context)
    parameters = request.parameters or PARAMETERS
    tokens = request.tokens or TOKENS_PER_PARAMETER * parameters
    context = request.context or context_for(6 * parameters * tokens)
    if request.minutes is None:
        return parameters, tokens, context
    speed = measure_speed(notes / "speed.json", vocab, context, workers)
    return *within(request, speed, vocab, context, len(workers)), context


def within(request: Request, speed: Speed, vocab: int, context: int, workers: int) -> tuple[float, float]:
    """The largest proxies, in parameters and tokens, that fit the minutes of a request.

    Raises ValueError when that is too little to learn anything.
    """
    assert request.minutes is not None
    rounds = math.ceil(request.proxies / workers)
    seconds = (60 * request.minutes - START_SECONDS - speed.compile_seconds) / rounds - OVERHEAD_SECONDS
    measuring = texts(request) * MixConfig.validation_tokens / FORWARD
    least = smallest(vocab, context=context).matmul
    parameters = request.parameters or max(float(least), largest(seconds, speed, measuring))
    per_token = speed.seconds_per_token(parameters)
    tokens = request.tokens or seconds / per_token - measuring
    fewest = FEWEST_STEPS * first_batch_for(context)
    if tokens < fewest or (tokens + measuring) * per_token > max(seconds, 0.0) * 1.01:
        wanted = (max(fewest, request.tokens or 0) + measuring) * per_token + OVERHEAD_SECONDS
        minutes = (wanted * rounds + START_SECONDS + speed.compile_seconds) / 60
        raise ValueError(
            f"{request.minutes:g} minutes are too few for {request.proxies} proxies on {workers} processors: give "
            f"--minutes {math.ceil(minutes)}, or fewer proxies"
        )
    return parameters, tokens


def texts(request: Request) -> int:
    """How many held-out texts a proxy is measured on: that of every source, and the folders that are targets."""
    return len(request.sources.keys() | request.target.keys())


def largest(seconds: float, speed: Speed, more: float = 0.0) -> float:
    """Parameters N of a run that takes ``seconds``: 20·N tokens and some ``more``, of (base + slope·N) seconds each."""
    a = TOKENS_PER_PARAMETER * speed.slope
    b = TOKENS_PER_PARAMETER * speed.base + more * speed.slope
    c = more * speed.base - seconds
    return (-b + math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a)
