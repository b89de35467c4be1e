"""The formats: how each is known by its fields, and what a row of it says.

They are asked in order, those with more fields first. Whatever a row's format, it says an :class:`Example`: messages
up to an assistant's turn, and responses to them, best first, one where it is a plain conversation and none where it is
a bare prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from isoflop.corpus.document import RecordError
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.formats.columns import nearest
from isoflop.posttraining.formats.messages import Messages, hh, is_messages, message, messages, text, with_system
from isoflop.posttraining.formats.tally import Unusable

Row = Mapping[str, Any]
PROMPTS = ("messages", "conversations", "prompt", "instruction", "question")
ANSWERS = ("completion", "response", "output", "answer")
LISTS = ("responses", "completions")
ORDERS = ("ranks", "rank", "scores", "score", "overall_score")
TEXTS = ("text", "content", *ANSWERS)
LABELS = ("label", "kto_tag")
SIDES = ("chosen", "rejected")
OTHERS = ("input", "system", "tools", "history", "edited")
FIELDS = (*PROMPTS, *ANSWERS, *LISTS, *ORDERS, *LABELS, *SIDES, *OTHERS)
"""All names that mean something in a row."""


class Example(NamedTuple):
    """What a row says: ``label`` where its one response is called good or bad."""

    prompt: Messages
    responses: tuple[str, ...]
    label: bool | None = None


class Format(NamedTuple):
    """A format's name, whether a row is of it, and what such a row says."""

    name: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Example]


def format_of(row: Row) -> Format:
    """The format of a row; a RecordError where it has none."""
    for known in FORMATS:
        if known.fits(row):
            return known
    names = ", ".join(map(str, row)) or "none"
    near = [hint for name in row if "mean" in (hint := nearest(str(name), FIELDS)) and name not in FIELDS]
    raise RecordError(f"no known format: the fields are {names[:200]}{near[0] if near else ''}")


def has(row: Row, *names: str) -> bool:
    """Whether the row has all these fields, not null."""
    return all(row.get(name) is not None for name in names)


def first(row: Row, names: tuple[str, ...]) -> Any:
    """The first of these fields that the row has."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def prompt(row: Row) -> Messages:
    """What a row asks, in whatever field, without an answer that it may end with."""
    value = first(row, PROMPTS)
    if isinstance(value, list):
        asked = messages(value)
    elif isinstance(value, str) and value.startswith("\n\nHuman:"):
        asked = hh(value.removesuffix("Assistant:").rstrip() if value.endswith("\n\nAssistant:") else value)
    else:
        further = text(row["input"], "input") if row.get("input") else ""
        question = "\n\n".join(part for part in (text(value, "prompt"), further) if part.strip())
        asked = (*history(row.get("history")), Message("user", question))
    return with_system(asked, row.get("system"), row.get("tools"))


def history(value: Any) -> Messages:
    """Alpaca's earlier exchanges, pairs of what was asked and answered."""
    found: list[Message] = []
    for pair in value or []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise RecordError("a history that is no list of pairs")
        found += [Message("user", text(pair[0], "history")), Message("assistant", text(pair[1], "history"))]
    return tuple(found)


def response(value: Any, name: str) -> str:
    """What an assistant says: text, a message, or a list with one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        said = message(value)
        if said.role != "assistant":
            raise RecordError(f'"{name}" is said by the {said.role} and not by the assistant')
        return said.content
    return text(value, name)


def conversation(row: Row) -> Example:
    """Messages up to the last of an assistant; those that end with another's are a bare prompt as well."""
    asked = prompt(row)
    if asked and asked[-1].role == "assistant":
        return Example(asked[:-1], (asked[-1].content,))
    return Example(asked, ())


def answered(row: Row) -> Example:
    """A question and an answer."""
    return Example(prompt(row), (response(first(row, ANSWERS), "answer"),))


def bare(row: Row) -> Example:
    """A question alone."""
    return Example(prompt(row), ())


def labelled(row: Row) -> Example:
    """A conversation or answer that is called good or bad (KTO)."""
    told = (answered if first(row, ANSWERS) is not None else conversation)(row)
    return Example(told.prompt, told.responses, bool(first(row, LABELS)))


def explicit(row: Row) -> Example:
    """A prompt with a chosen and a rejected answer, and perhaps the chosen one edited."""
    names = [name for name in ("edited", "chosen", "rejected") if has(row, name)]
    return Example(prompt(row), tuple(response(row[name], name) for name in names))


def implicit(row: Row) -> Example:
    """Two whole conversations that are the same up to their last answers."""
    chosen, rejected = (messages(row[name]) for name in ("chosen", "rejected"))
    return parted(with_system(chosen, row.get("system")), with_system(rejected, row.get("system")))


def parted(chosen: Messages, rejected: Messages) -> Example:
    """The prompt that two conversations share, and their answers."""
    if chosen[:-1] != rejected[:-1]:
        raise Unusable("chosen and rejected differ before their last messages")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise Unusable("chosen or rejected does not end with the assistant's message")
    return Example(chosen[:-1], (chosen[-1].content, rejected[-1].content))


def ranked(row: Row) -> Example:
    """Responses with ranks, where 1 is the best, or scores, where the highest is; of equals the first stands alone."""
    found = first(row, LISTS)
    order = next((name for name in ORDERS if isinstance(row.get(name), list)), None)
    if order is None and all(isinstance(one, Mapping) for one in found):
        order = next((name for name in ORDERS if all(has(one, name) for one in found)), None)
        numbers = [one[order] for one in found] if order else []
        found = [first(one, TEXTS) for one in found]
    else:
        numbers = row[order] if order else []
    if not isinstance(numbers, list) or len(numbers) != len(found) or not all(map(is_number, numbers)):
        raise RecordError("responses without a rank or score each")
    sign = 1 if order in ("rank", "ranks") else -1
    best = dict[float, str]()
    for number, said in zip(numbers, found, strict=True):
        best.setdefault(sign * number, response(said, "responses"))
    return Example(prompt(row), tuple(said for _, said in sorted(best.items())))


def is_number(value: Any) -> bool:
    """Whether a value is a number that can be ordered."""
    return isinstance(value, int | float) and value == value


def is_hh(row: Row) -> bool:
    """Whether both sides are whole conversations as strings."""
    return all(isinstance(row.get(name), str) and row[name].lstrip().startswith("Human:") for name in SIDES)


def is_implicit(row: Row) -> bool:
    """Whether both sides are whole conversations as lists, which repeat what was asked."""
    return all(is_messages(row.get(name)) and len(row[name]) > 1 for name in SIDES)


def asks(row: Row) -> bool:
    """Whether anything is asked."""
    return first(row, PROMPTS) is not None


def spells(*keys: str) -> Callable[[Row], bool]:
    """Whether the messages of a row have these keys."""

    def fits(row: Row) -> bool:
        value = first(row, ("messages", "conversations"))
        return isinstance(value, list) and all(isinstance(one, Mapping) and keys[0] in one for one in value)

    return fits


def pair(row: Row) -> bool:
    """Whether two answers are put side by side."""
    return has(row, *SIDES)


FORMATS = (
    Format("KTO", lambda row: isinstance(first(row, LABELS), bool) and asks(row), labelled),
    Format("HH", is_hh, lambda row: parted(hh(row["chosen"]), hh(row["rejected"]))),
    Format("preference, implicit prompt", is_implicit, implicit),
    Format("ranking", lambda row: asks(row) and isinstance(first(row, LISTS), list), ranked),
    Format("ranking, edited", lambda row: asks(row) and pair(row) and has(row, "edited"), explicit),
    Format("ShareGPT preference", lambda row: pair(row) and has(row, "conversations"), explicit),
    Format("Alpaca preference", lambda row: pair(row) and has(row, "instruction"), explicit),
    Format("preference, explicit prompt", lambda row: pair(row) and asks(row), explicit),
    Format("OpenAI messages", spells("role"), conversation),
    Format("ShareGPT", spells("from"), conversation),
    Format("Alpaca", lambda row: has(row, "instruction") and first(row, ANSWERS) is not None, answered),
    Format("question and answer", lambda row: has(row, "question", "answer"), answered),
    Format("prompt and completion", lambda row: asks(row) and first(row, ANSWERS) is not None, answered),
    Format("prompt", asks, bare),
)
"""What is known, in the order in which it is asked."""
