"""A few texts from a run, enough to see what it has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.load import load_model
from isoflop.inference.requests import Request
from isoflop.inference.sampling import Sampling


def sample_texts(
    run: Path, prompts: Sequence[str], count: int = 160, seed: int = 0, temperature: float = 0.8
) -> list[dict[str, str]]:
    """Texts of at most ``count`` tokens that the run's model writes after each prompt, as ``{"prompt", "text"}``."""
    model, tokenizer = load_model(run)
    engine = Engine(Decoder(model), tokenizer)
    sampling = Sampling(temperature=temperature)
    requests = [
        Request((tokenizer.bos, *tokenizer.encode(prompt)), 1, count, sampling, seed=seed + number)
        for number, prompt in enumerate(prompts)
    ]
    answers = engine.generate(requests)
    return [{"prompt": prompt, "text": answer.text} for prompt, (answer,) in zip(prompts, answers, strict=True)]
