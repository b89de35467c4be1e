"""What post-training data are made of: messages, conversations, and responses to one prompt in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Message:
    """What one side says; an assistant's words that are not ``learned`` are given to a model like the others'."""

    role: Role
    content: str
    learned: bool = True

    def __post_init__(self) -> None:
        """Refuse a side that there is none of."""
        if self.role not in ROLES:
            raise ValueError(f"there is no role {self.role!r}; a message is of {', '.join(ROLES)}")


@dataclass(frozen=True)
class Conversation:
    """Messages in their order; what assistants say in it is what a model learns to say, unless it is a
    message that is not to be learned."""

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        """Refuse one in which nobody speaks."""
        if not self.messages:
            raise ValueError("a conversation needs at least one message")


@dataclass(frozen=True)
class Ranking:
    """Two or more responses to one prompt, best first: a preference is a ranking of two, edited > chosen > rejected
    one of three (Llama 3, arXiv 2407.21783, section 4.2.1)."""

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what ranks nothing."""
        if not self.prompt or self.prompt[-1].role == "assistant":
            raise ValueError("the prompt of a ranking ends with a message to the assistant")
        if len(set(self.responses)) != len(self.responses) or len(self.responses) < 2:
            raise ValueError("a ranking needs at least two responses, all different")
