"""A conversation with a model: what was said so far, and answers as they come.

An answer that is stopped on the way counts as far as it came. A conversation longer than the context goes on without
its earliest exchanges (``Chat.fit``). Every answer reads the whole conversation again, which at a prompt's speed is a
small part of the time; left out: keeping the cache from one answer to the next, which the engine has no door for.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from isoflop.inference.engine import Engine
from isoflop.inference.requests import Finish, Request
from isoflop.inference.sampling import Sampling
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Conversation, Message


@dataclass
class Dialogue:
    """A conversation under way.

    Attributes:
        engine: generates.
        chat: the format.
        system: what the model is told beforehand; "" for nothing.
        sampling: how tokens are drawn.
        max_tokens: tokens of an answer at most.
        seed: of the first answer; every further one has the next, so that asking again may give another.
        said: messages so far, the system's apart.
        finish: why the last answer ended; None where it was stopped.
        left_out: messages that the last answer did without, for lack of room.
    """

    engine: Engine
    chat: Chat
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 512
    seed: int = 0
    said: list[Message] = field(default_factory=list)
    finish: Finish | None = None
    left_out: int = 0

    @property
    def messages(self) -> list[Message]:
        """All messages, the system's first."""
        return [*([Message("system", self.system)] if self.system.strip() else []), *self.said]

    @property
    def conversation(self) -> Conversation:
        """What was said, to be kept; a ValueError where that is nothing."""
        if not self.said:
            raise ValueError("nothing has been said yet")
        return Conversation(tuple(self.messages))

    def ask(self, text: str) -> Generator[str, None, None]:
        """The pieces of the answer to ``text`` as they come; both belong to the conversation then.

        A ValueError where nothing is asked or it does not fit into the context.
        """
        if not text.strip():
            raise ValueError("nothing is asked: give a message with words in it")
        question = Message("user", text)
        room = min(self.max_tokens, self.engine.context // 2)
        ids, self.left_out = self.chat.fit([*self.messages, question], self.engine.context - room)
        request = Request(tuple(ids), 1, self.max_tokens, self.sampling, stop_ids=self.chat.stop_ids, seed=self.seed)
        self.seed += 1
        self.finish, answer = None, ""
        try:
            for event in self.engine.stream([request]):
                answer, self.finish = answer + event.text, event.finish
                yield event.text
        finally:
            if answer.strip() or self.finish:
                self.said += [question, Message("assistant", answer.strip())]

    def undo(self) -> Message | None:
        """Take back the last question and its answer; returns the question, None where there is none."""
        asked = [number for number, message in enumerate(self.said) if message.role == "user"]
        if not asked:
            return None
        question = self.said[asked[-1]]
        del self.said[asked[-1] :]
        return question
