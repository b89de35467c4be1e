"""Text as tokens arrive: a character is given out once all its bytes are there, a stop text never."""

from __future__ import annotations

from collections.abc import Sequence

from isoflop.tokens.tokenizer import Tokenizer

REPLACEMENT = "�"


class Unfolding:
    """The text of a growing list of ids. Decodes the last few ids at a time, so its cost a token is constant."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.ids: list[int] = []
        self.begin = 0  # of the ids that are decoded together
        self.known = ""  # what those gave before
        self.held = ""  # text that may turn out to begin a stop text
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is certain now; after a stop text nothing more."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids[self.begin :])
        if text.endswith(REPLACEMENT) and len(self.ids) - self.begin < 16:
            return ""  # the rest of a character may be coming; no character has so many tokens
        new, self.known = text[len(self.known) :], text
        if len(self.ids) - self.begin > 8:
            # The last id stays, so that a tokenizer whose spaces depend on what comes before still sees something.
            self.begin = len(self.ids) - 1
            self.known = self.tokenizer.decode(self.ids[self.begin :])
        return self.release(new)

    def release(self, new: str) -> str:
        """What of the held and the new text can be no part of a stop text."""
        text = self.held + new
        found = [at for at in (text.find(stop) for stop in self.stops) if at >= 0]
        if found:
            self.stopped, self.held = True, ""
            return text[: min(found)]
        keep = max((overlap(text, stop) for stop in self.stops), default=0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, once nothing more is coming: half a character, the beginning of a stop text."""
        text = self.tokenizer.decode(self.ids[self.begin :]) if self.ids else ""
        return self.release(text[len(self.known) :]) + self.held if not self.stopped else ""


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
