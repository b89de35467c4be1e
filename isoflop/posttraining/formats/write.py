"""Conversations and rankings as rows that everybody reads, and that come back as what they were."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isoflop.files import write_text
from isoflop.posttraining.conversation import Conversation, Message, Ranking


def to_row(value: Conversation | Ranking) -> dict[str, Any]:
    """OpenAI's messages, or a prompt with responses and their ranks."""
    if isinstance(value, Conversation):
        return {"messages": spelled(value.messages)}
    ranks = list(range(1, len(value.responses) + 1))
    return {"prompt": spelled(value.prompt), "responses": list(value.responses), "ranks": ranks}


def write_rows(path: Path, values: Iterable[Conversation | Ranking]) -> None:
    """Write JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(to_row(value), ensure_ascii=False) + "\n" for value in values))


def spelled(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages with a role and a content each, and a weight of 0 where they are not to be learned."""
    return [
        {"role": message.role, "content": message.content} | ({} if message.learned else {"weight": 0})
        for message in messages
    ]
