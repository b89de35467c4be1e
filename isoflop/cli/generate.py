"""``isoflop generate``: texts that a model writes after prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from isoflop.inference.engine import Engine
    from isoflop.inference.requests import Request

DESCRIPTION = """Writes on from prompts with a model: a run's, or whatever else has weights and a tokenizer, such as a
Hugging Face folder. A single text is shown as it comes.

examples:
  isoflop generate runs/mine "The law of"
  isoflop generate runs/mine "def add(" "class " --samples 4 --temperature 0.6 --stop $'\\n\\n'
  isoflop generate runs/mine --file prompts.txt --json > answers.jsonl      # a prompt a line
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop generate``.

    Attributes:
        model: A run, a checkpoint of one, an aligned or imported model, a Hugging Face folder or a .gguf file.
        prompts: Texts to go on from; none is the beginning of a document.
        file: File with one prompt a line.
        samples: Texts after each prompt.
        max_tokens: Tokens of a text at most; fewer where the model's context ends.
        temperature: Divides the logits; 0 is greedy.
        top_k: Only among so many likeliest tokens; 0 for all.
        top_p: Only among the likeliest tokens that together have this probability.
        min_p: Only among tokens at least so likely, as a share of the likeliest.
        repetition: Makes tokens already in the text less likely; 1 for no difference.
        stop: Texts that end one, and are cut off.
        seed: Chooses other texts; each prompt's depend on nothing but it.
        averaged: Use the averaged weights instead of the last.
        int8: Round weights to eight bits.
        json: Print a JSON object a text, with its ids and log-probabilities.
    """

    model: tyro.conf.Positional[Path]
    prompts: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    samples: int = 1
    max_tokens: int = 128
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    averaged: bool = False
    int8: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop generate", description=DESCRIPTION)
    prompts = [*a.prompts, *(lines_of(a.file) if a.file else [])] or [""]
    from isoflop.inference.decoder import Decoder
    from isoflop.inference.engine import Engine
    from isoflop.inference.load import load_model
    from isoflop.inference.requests import Request
    from isoflop.inference.sampling import Sampling

    sampling = Sampling(a.temperature, a.top_k, a.top_p, a.min_p, a.repetition)
    model, tokenizer = load_model(a.model, averaged=a.averaged)
    engine = Engine(Decoder(model, int8=a.int8), tokenizer)
    requests = [
        Request(
            (tokenizer.bos, *tokenizer.encode(prompt)),
            a.samples,
            a.max_tokens,
            sampling,
            (tokenizer.eos,),
            a.stop,
            a.seed,
        )
        for prompt in prompts
    ]
    if len(prompts) * a.samples == 1 and not a.json:
        show_as_it_comes(engine, requests[0], prompts[0])
    else:
        show(engine, requests, prompts, as_json=a.json)


def lines_of(file: Path) -> list[str]:
    """The prompts in a file; a ValueError where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read prompts from {file}: {error}") from None


def show_as_it_comes(engine: Engine, request: Request, prompt: str) -> None:
    """Print a text piece by piece."""
    print(prompt, end="", flush=True)
    for event in engine.stream([request]):
        print(event.text, end="", flush=True)
    print()


def show(engine: Engine, requests: list[Request], prompts: list[str], *, as_json: bool) -> None:
    """Print all texts once they are there."""
    for prompt, answers in zip(prompts, engine.generate(requests), strict=True):
        for number, answer in enumerate(answers):
            if as_json:
                print(json.dumps({"prompt": prompt, "sample": number, **vars(answer)}))
            else:
                print(f"--- {prompt!r}, {number + 1}: {answer.finish} after {len(answer.ids)} tokens")
                print(prompt + answer.text)
