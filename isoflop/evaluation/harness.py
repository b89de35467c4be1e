"""A model of ours for lm-evaluation-harness, so that any of its tasks can be put to it.

    from isoflop.evaluation.harness import Harness
    lm_eval.simple_evaluate(Harness.open("runs/mine"), tasks=["arc_easy"])

It needs the extra ``eval``. Contexts are read once for all their choices, and samples of a prompt share it. Text that
spells a control token is text here; on the harness's own Hugging Face backend it is the token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.pieces import windows
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Request
from isoflop.inference.sampling import Sampling
from isoflop.progress import Report, console

try:
    from lm_eval.api.model import TemplateLM  # type: ignore[import-not-found,unused-ignore]
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "lm_eval":
        raise
    raise ModuleNotFoundError(
        "lm-evaluation-harness is not installed: pip install 'isoflop[eval]'", name="lm_eval"
    ) from None

GENERATED = 256
"""Tokens that are generated where a task does not say how many, as the harness's own backend has it."""


class Harness(TemplateLM):  # type: ignore[misc]
    """The harness's interface over a scorer."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.engine = Engine(scorer.decoder, scorer.tokenizer)

    @classmethod
    def open(cls, path: Path | str, **settings: Any) -> Harness:
        """The model at ``path``; ``settings`` are those of :meth:`Scorer.open`."""
        return cls(Scorer.open(Path(path), **settings))

    @property
    def eot_token_id(self) -> int:
        """What ends a document."""
        return self.scorer.tokenizer.eos

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is."""
        return self.scorer.tokenizer.bos

    @property
    def max_length(self) -> int:
        """The model's context."""
        return self.scorer.reader.room

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in the harness's cache of requests."""
        return self.scorer.tokenizer.checksum

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text, after bos unless told otherwise."""
        ids = self.scorer.tokenizer.encode(string)
        return ids if add_special_tokens is False else [self.prefix_token_id, *ids]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each request's continuation, and whether greedy generation would write it."""
        with console() as report:
            pairs = self.scorer.encode([request.args for request in requests])
            scores = self.scorer.reader.score(pairs, shown(report, disable_tqdm))
        found = [(score.logprob, score.greedy) for score in scores]
        self.keep("loglikelihood", requests, found)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """As :meth:`loglikelihood`, of ids."""
        pairs = [(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        return [(score.logprob, score.greedy) for score in self.scorer.reader.score(pairs)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each request's whole text, in windows of the model's context that do not overlap.

        As on the harness's Hugging Face backend, the text's own bos is predicted too, after another.
        """
        bos, room = (self.prefix_token_id,), self.max_length
        own = [list(windows(bos, tuple(self.tok_encode(text)), room, room)) for (text,) in (r.args for r in requests)]
        with console() as report:
            scores = iter(self.scorer.reader.score([p for each in own for p in each], shown(report, disable_tqdm)))
        found = [sum(next(scores).logprob for _ in each) for each in own]
        self.keep("loglikelihood_rolling", requests, found)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The text that each request's context is gone on with, until one of its stop texts."""
        asked = [self.request_of(*request.args) for request in requests]
        found = [answers[0].text for answers in self.engine.generate(asked)]
        self.keep("generate_until", requests, found)
        return found

    def request_of(self, context: str, settings: dict[str, Any]) -> Request:
        """What the harness asks for as a request to our engine; a context too long is cut from the left."""
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        most = next((int(settings[name]) for name in names if settings.get(name) is not None), GENERATED)
        if most >= self.max_length:
            raise ValueError(f"{most:,} tokens are to be generated, and the model's context is {self.max_length:,}")
        until = settings.get("until") or []
        drawn = bool(settings.get("do_sample", settings.get("temperature", 0) > 0))
        sampling = Sampling(
            float(settings.get("temperature", 1.0)) if drawn else 0.0,
            int(settings.get("top_k") or 0),
            float(settings.get("top_p") or 1.0),
        )
        return Request(
            tuple(self.tok_encode(context)[most - self.max_length :]),
            max_tokens=most,
            sampling=sampling,
            stop_ids=(self.eot_token_id,),
            stop_texts=tuple(filter(None, [until] if isinstance(until, str) else until)),
        )

    def keep(self, kind: str, requests: Sequence[Any], found: Sequence[Any]) -> None:
        """Give answers to the harness's cache, if it has one."""
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial(kind, request.args, answer)


def shown(report: Report, silenced: bool) -> Report:
    """The report, unless the harness asked for silence."""
    from isoflop.progress import silent

    return silent if silenced else report
