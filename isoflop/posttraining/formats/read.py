"""Conversations, rankings and prompts out of files of any format, each with its place, and an account of the rest.

A row's format is detected from its fields, row by row (``formats.known``). A row that cannot be understood is
malformed, counted with its place and skipped; more than a stated share of such rows is an error, at the end of the
reading. A row that is understood and useless (an empty prompt or answer, the same text chosen and rejected) is counted
and skipped too. Costs some 6,000 rows a second of a core (measured on the files of GSM8K).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from isoflop.corpus.document import RecordError
from isoflop.posttraining.conversation import Conversation, Message, Ranking
from isoflop.posttraining.formats.columns import Columns, renamed
from isoflop.posttraining.formats.files import rows
from isoflop.posttraining.formats.known import Example, format_of
from isoflop.posttraining.formats.tally import Tally, Unusable

T = TypeVar("T")
SAME: Mapping[str, str] = {}


@dataclass(frozen=True)
class Placed(Generic[T]):
    """A value and where it was read, as file:line."""

    place: str
    value: T


Read = Iterator[Placed[T]]


def read_examples(paths: Sequence[Path], tally: Tally | None = None, *, columns: Columns = SAME) -> Read[Example]:
    """What every row says, its label too; ``columns`` are others' names for fields. Raises ValueError."""
    return _read(paths, tally, columns, "example", lambda example: example)


def read_conversations(
    paths: Sequence[Path], tally: Tally | None = None, *, columns: Columns = SAME
) -> Read[Conversation]:
    """Conversations that end with an assistant's message: of responses the best, and none that is labelled bad."""
    return _read(paths, tally, columns, "conversation", conversation)


def read_rankings(paths: Sequence[Path], tally: Tally | None = None, *, columns: Columns = SAME) -> Read[Ranking]:
    """Rankings, of which a preference is one of two."""
    return _read(paths, tally, columns, "ranking", ranking)


def read_prompts(
    paths: Sequence[Path], tally: Tally | None = None, *, columns: Columns = SAME
) -> Read[tuple[Message, ...]]:
    """What is asked, up to a message to the assistant; answers are left out."""
    return _read(paths, tally, columns, "prompt", asked)


def _read(
    paths: Sequence[Path], tally: Tally | None, columns: Columns, wanted: str, take: Callable[[Example], T]
) -> Iterator[Placed[T]]:
    tally = Tally() if tally is None else tally
    for place, row in rows(paths):
        tally.rows += 1
        try:
            if isinstance(row, RecordError):
                raise row
            fields = renamed(row, columns)
            known = format_of(fields)
            tally.formats[known.name] += 1
            value = take(known.read(fields))
        except RecordError as error:
            tally.skip(place, error)
            continue
        tally.kept += 1
        yield Placed(place, value)
    tally.finish(wanted)


def asked(example: Example) -> tuple[Message, ...]:
    """The prompt, if it asks something."""
    said = [message for message in example.prompt if message.role in ("user", "assistant")]
    if not any(message.role == "user" for message in said) or example.prompt[-1].role in ("assistant", "system"):
        raise Unusable("nothing is asked")
    for message in said:
        if not message.content.strip():
            raise Unusable("an empty prompt" if message is said[-1] else f"an empty message of the {message.role}")
    return example.prompt


def conversation(example: Example) -> Conversation:
    """The conversation with its best response."""
    if example.label is False:
        raise Unusable("labelled bad")
    answer = [Message("assistant", said) for said in example.responses[:1]]
    said = [*example.prompt, *answer]
    while said and said[-1].role != "assistant":
        said.pop()
    if not said:
        raise Unusable("no answer")
    for message in said:
        if message.role in ("user", "assistant") and not message.content.strip():
            raise Unusable("an empty answer" if message is said[-1] else f"an empty message of the {message.role}")
    return Conversation(tuple(said))


def ranking(example: Example) -> Ranking:
    """The ranking of all responses; one said twice counts where it is better."""
    prompt = asked(example)
    if len(example.responses) < 2:
        raise Unusable("fewer than two responses")
    if not all(said.strip() for said in example.responses):
        raise Unusable("an empty answer")
    different = {said.strip(): said for said in reversed(example.responses)}
    if len(different) < 2:
        raise Unusable("the same text chosen and rejected")
    return Ranking(prompt, tuple(reversed(different.values())))
