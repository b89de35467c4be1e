"""Continuous batching: many continuations at once, each leaving its row to the next when it ends.

A prompt is read once, with others of about its length, and its cache copied to a row for each of its samples. Then all
rows take a step together; rows that end are given to what waits, and when nothing waits the batch shrinks. Events come
out as tokens are chosen, so that a caller may stream, or collect them (:func:`Engine.generate`).

A request's chances are its own (``sampling.chance``); logits depend on neighbours in their last bits only, because
sums of another length are rounded otherwise. Costs: the cache of ``rows`` rows, and of the prompts whose samples still
wait. Left out: pages of cache, prompts in pieces between steps, speculative decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isoflop.inference.cache import Cache
from isoflop.inference.decoder import Decoder
from isoflop.inference.requests import Completion, Event, Finish, Request
from isoflop.inference.sampling import chance, choose, penalise
from isoflop.inference.text import Unfolding
from isoflop.tokens.tokenizer import Tokenizer

READ_TOKENS = 1024
"""Tokens of prompts read in one pass: enough for the products' speed, and their cache is all that waits beside the
rows'."""


@dataclass
class Prompt:
    """A prompt that has been read: its row of a cache, the logits behind its last token, and samples still to begin."""

    number: int
    request: Request
    cache: Cache
    row: int
    logits: Tensor
    begun: int = 0

    @property
    def waiting(self) -> bool:
        """Whether samples have yet to begin."""
        return self.begun < self.request.samples


class Row:
    """A continuation under way."""

    def __init__(self, prompt: Prompt, tokenizer: Tokenizer | None, context: int) -> None:
        self.number, self.request, self.sample = prompt.number, prompt.request, prompt.begun
        self.length, self.place, self.token = len(self.request.prompt), 0, 0
        self.room = min(self.request.max_tokens, context - self.length)
        self.text = Unfolding(tokenizer, self.request.stop_texts) if tokenizer is not None else None

    @property
    def chance(self) -> float:
        """The number that draws this row's next token."""
        return chance(self.request.seed, self.sample, self.place)

    def take(self, token: int, logprob: float) -> Event:
        """Add a token; the event says whether it was the last."""
        self.token, self.place = token, self.place + 1
        piece: str = ""
        finish: Finish | None = None
        stop = token in self.request.stop_ids
        if self.text is not None and not stop:
            piece = self.text.add(token)
        if stop or (self.text is not None and self.text.stopped):
            finish = "stop"
        elif self.place >= self.room:
            finish = "length"
        if finish and self.text is not None:
            piece += self.text.rest()
        return Event(self.number, self.sample, token, logprob, piece, finish)


class Engine:
    """Generates with a model, ``rows`` continuations at a time, each of at most ``context`` tokens with its prompt."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer | None = None, *, rows: int = 64, context: int | None = None
    ) -> None:
        if rows < 1:
            raise ValueError(f"an engine needs at least one row, not {rows}")
        self.decoder, self.tokenizer, self.rows = decoder, tokenizer, rows
        self.context = min(context or decoder.shape.context, decoder.shape.context)

    def generate(
        self, requests: Sequence[Request], follow: Callable[[Event], None] | None = None
    ) -> list[list[Completion]]:
        """Every request's completions, in order; ``follow`` sees every token on the way, and may raise to stop."""
        found = [[Completion() for _ in range(request.samples)] for request in requests]
        for event in self.stream(requests):
            completion = found[event.request][event.sample]
            completion.ids.append(event.id)
            completion.logprobs.append(event.logprob)
            completion.text += event.text
            completion.finish = event.finish
            if follow is not None:
                follow(event)
        return found

    @torch.inference_mode()
    def stream(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Tokens of all requests as they are chosen. A ValueError before the first where a request cannot be met."""
        for number, request in enumerate(requests):
            self.check(number, request)
        batch = Batch(self, requests)
        while batch.busy:
            yield from batch.admit()
            yield from batch.step()

    def check(self, number: int, request: Request) -> None:
        """Refuse a prompt that leaves no room, ids that are none, and stop texts that nothing could see."""
        if len(request.prompt) >= self.context:
            raise ValueError(
                f"prompt {number} has {len(request.prompt):,} tokens and the context ends at {self.context:,}; "
                f"shorten it to leave room for an answer"
            )
        vocab = self.decoder.shape.vocab
        if bad := [i for i in request.prompt if not 0 <= i < vocab]:
            raise ValueError(f"prompt {number} has the id {bad[0]}, and the model's vocabulary ends at {vocab - 1}")
        if request.stop_texts and self.tokenizer is None:
            raise ValueError("stop texts need an engine with a tokenizer")


class Batch:
    """The rows of one call, what they hold, and what waits for them."""

    def __init__(self, engine: Engine, requests: Sequence[Request]) -> None:
        self.engine, self.decoder = engine, engine.decoder
        samples = sum(request.samples for request in requests)
        longest = max((len(r.prompt) + r.max_tokens for r in requests), default=1)
        self.cache = self.decoder.cache(min(engine.rows, max(1, samples)), min(longest, engine.context))
        self.unread = deque(sorted(enumerate(requests), key=lambda pair: -len(pair[1].prompt)))
        self.read: deque[Prompt] = deque()
        self.active: list[Row] = []
        penalised = any(request.sampling.repetition != 1 for request in requests)
        size = (self.cache.rows, self.decoder.shape.vocab)
        self.seen = torch.zeros(size, dtype=torch.bool, device=self.decoder.device) if penalised else None

    @property
    def busy(self) -> bool:
        """Whether anything is under way or waits."""
        return bool(self.active or self.read or self.unread)

    def admit(self) -> Iterator[Event]:
        """Give free rows to samples that wait, reading prompts as needed; their first tokens are chosen at once."""
        while (free := self.cache.rows - len(self.active)) and (self.read or self.unread):
            if not self.read:
                self.read_prompts(free)
            prompt = self.read[0]
            count = min(free, prompt.request.samples - prompt.begun)
            rows = [self.begin(prompt) for _ in range(count)]
            if not prompt.waiting:
                self.read.popleft()
            yield from self.take(rows, prompt.logits.expand(count, -1))

    def read_prompts(self, free: int) -> None:
        """Read the next prompts, of falling length, as many as free rows or a pass take."""
        chosen: list[tuple[int, Request]] = []
        longest = len(self.unread[0][1].prompt)
        while self.unread and len(chosen) < free and (len(chosen) + 1) * longest <= max(READ_TOKENS, longest):
            if len(self.unread[0][1].prompt) < longest // 2 and chosen:
                break  # what is filled up would cost more than reading apart
            chosen.append(self.unread.popleft())
        cache = self.decoder.cache(len(chosen), longest)
        states, last = self.decoder.read_texts([request.prompt for _, request in chosen], cache)
        logits = self.decoder.logits(states[last])
        for row, (number, request) in enumerate(chosen):
            self.read.append(Prompt(number, request, cache, row, logits[row]))

    def begin(self, prompt: Prompt) -> Row:
        """Copy a prompt's cache to the next row, for its next sample."""
        row, at = Row(prompt, self.engine.tokenizer, self.engine.context), len(self.active)
        self.cache.copy_row(at, prompt.cache, prompt.row, row.length)
        if self.seen is not None:
            self.seen[at] = False
            self.seen[at, list(prompt.request.prompt)] = True
        prompt.begun += 1
        self.active.append(row)
        return row

    def step(self) -> Iterator[Event]:
        """One token for every active row."""
        if not self.active:
            return
        rows = list(self.active)
        self.cache.grow([row.length for row in rows] + [0] * (self.cache.rows - len(rows)))
        ids = torch.tensor([[row.token] for row in rows], device=self.decoder.device)
        states = self.decoder.read(ids, self.cache)  # (rows, width)
        for row in rows:
            row.length += 1
        yield from self.take(rows, self.decoder.logits(states))

    def take(self, rows: list[Row], logits: Tensor) -> Iterator[Event]:
        """Choose a token for each of these rows, the last ones that are active, and retire those that end."""
        first = len(self.active) - len(rows)
        own = [row.request.sampling for row in rows]
        raw = logits
        if self.seen is not None:
            logits = penalise(logits, self.seen[first : len(self.active)], own)
        chosen = choose(logits, own, [row.chance for row in rows])
        logprobs = raw.gather(1, chosen[:, None]).squeeze(1) - raw.logsumexp(-1)
        if self.seen is not None:
            self.seen[torch.arange(first, len(self.active)), chosen] = True
        events = [row.take(*pair) for row, *pair in zip(rows, chosen.tolist(), logprobs.tolist(), strict=True)]
        for at in reversed(range(len(rows))):
            if events[at].finish:
                self.retire(first + at)
        yield from events

    def retire(self, at: int) -> None:
        """Free a row by moving the last active one into it."""
        last = len(self.active) - 1
        if at != last:
            self.cache.move(last, at, self.active[last].length)
            if self.seen is not None:
                self.seen[at] = self.seen[last]
            self.active[at] = self.active[last]
        self.active.pop()
