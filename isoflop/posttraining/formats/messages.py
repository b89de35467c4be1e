"""Messages as others spell them: OpenAI's role and content, ShareGPT's from and value, tools, HH's one long string.

Calls of tools are text that the assistant says, a JSON object with name and arguments on a line each; descriptions of
tools are text at the end of the system's message. A ``weight`` of 0 keeps what an assistant says from being learned.
Left out: images and sounds, which are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from isoflop.corpus.document import RecordError
from isoflop.posttraining.conversation import Message, Role
from isoflop.posttraining.formats.columns import nearest
from isoflop.posttraining.formats.tally import Unusable

NAMES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "ipython", "function", "observation", "function_response", "tool_response"), "tool"),
}
"""Roles by what others call them."""
TOOLS = "Functions that can be called, in JSON:"
TURN = re.compile(r"\n\n(Human|Assistant):")

Messages = tuple[Message, ...]


def is_messages(value: Any) -> bool:
    """Whether a value is a list of objects that are messages by their keys."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and ("role" in one or "from" in one) for one in value)
    )


def messages(value: Any) -> Messages:
    """A list of messages; those of the system that say nothing are left out."""
    if not isinstance(value, list) or not value:
        raise RecordError("an empty list of messages" if value == [] else "messages that are no list")
    found = [message(one) for one in value]
    return tuple(one for one in found if one.content.strip() or one.role != "system")


def message(value: Any) -> Message:
    """One message in either spelling."""
    if not isinstance(value, Mapping):
        raise RecordError("a message that is no object")
    name = value.get("role", value.get("from"))
    if not isinstance(name, str) or name.lower() not in NAMES:
        raise RecordError(f"unknown role {str(name)[:40]!r}{nearest(str(name)[:40], NAMES)}")
    parts = [content(value.get("content", value.get("value"))), *calls(value)]
    return Message(NAMES[name.lower()], "\n".join(part for part in parts if part), learned(value))


def learned(value: Mapping[str, Any]) -> bool:
    """Whether a message is to be learned: OpenAI's ``weight``, 0 or 1."""
    weight = value.get("weight")
    if weight is not None and weight not in (0, 1):
        raise RecordError(f"a weight of {str(weight)[:40]}, which is neither 0 nor 1")
    return weight != 0


def content(value: Any) -> str:
    """Text, also where it is null or a list of parts."""
    if isinstance(value, list):
        kinds = {str(part.get("type", "text")) if isinstance(part, Mapping) else "text" for part in value}
        if kinds - {"text"}:
            raise Unusable(f"a message with {min(kinds - {'text'})[:40]}, which is no text")
        return "".join(text(part["text"] if isinstance(part, Mapping) else part, "content") for part in value)
    return text(value, "content") if value is not None else ""


def text(value: Any, name: str) -> str:
    """A string that UTF-8 can spell."""
    if not isinstance(value, str):
        raise RecordError(f'"{name}" is not text but {type(value).__name__}')
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise RecordError(f'"{name}" holds half a surrogate pair') from None
    return value


def calls(value: Mapping[str, Any]) -> list[str]:
    """The calls of tools in a message, as text."""
    found = [value["function_call"]] if value.get("function_call") else value.get("tool_calls") or []
    if not isinstance(found, list):
        raise RecordError("tool_calls that are no list")
    return [call(one.get("function", one) if isinstance(one, Mapping) else one) for one in found]


def call(function: Any) -> str:
    """One call, its arguments an object whether or not they come as text."""
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RecordError("a call of a tool without its name")
    arguments = function.get("arguments", {})
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        raise RecordError("a call of a tool whose arguments are no JSON") from None
    return text(json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False), "tool_calls")


def with_system(said: Messages, system: Any = None, tools: Any = None) -> Messages:
    """Messages after what a row says beside them: the system's words, and the tools there are."""
    known = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False) if tools else ""
    given = [text(system, "system")] if system else []
    if said and said[0].role == "system":
        given, said = [*given, said[0].content], said[1:]
    if known.strip() not in ("", "[]", "{}"):
        given.append(f"{TOOLS}\n{text(known, 'tools')}")
    return (Message("system", "\n\n".join(given)), *said) if "".join(given).strip() else said


def hh(value: str) -> Messages:
    """A conversation as one string of Human and Assistant (Bai et al. 2022, arXiv 2204.05862)."""
    before, *parts = TURN.split("\n\n" + value.lstrip())
    if before.strip() or not parts:
        raise RecordError('a text that does not begin with "Human:"')
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(NAMES[name.lower()], text(said, "chosen").strip()) for name, said in pairs)
