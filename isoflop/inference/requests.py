"""What is asked of the engine, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from isoflop.inference.sampling import Sampling

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    Attributes:
        prompt: token ids, at least one.
        samples: continuations wanted, which share the work of reading the prompt.
        max_tokens: tokens of a continuation at most; fewer where the model's context ends.
        sampling: how tokens are drawn.
        stop_ids: tokens that end a continuation; they are among its ids.
        stop_texts: texts that end one, wherever they come to stand; they are cut off its text.
        seed: with it and the sample's number, the same request draws the same chances beside any others.
    """

    prompt: tuple[int, ...]
    samples: int = 1
    max_tokens: int = 128
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be answered."""
        if not self.prompt:
            raise ValueError("a prompt needs at least one token; begin with the tokenizer's bos")
        if self.samples < 1 or self.max_tokens < 1:
            raise ValueError(
                f"a request needs at least one sample of one token, not {self.samples} of {self.max_tokens}"
            )
        if "" in self.stop_texts:
            raise ValueError("an empty stop text would end every continuation before it begins")


class Event(NamedTuple):
    """One more token of a continuation: of which request and sample, its log-probability before any filter or
    temperature, the text that became certain with it, and why it is the last, if it is."""

    request: int
    sample: int
    id: int
    logprob: float
    text: str
    finish: Finish | None


@dataclass
class Completion:
    """A whole continuation; ``logprobs`` are nats, one a token."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
