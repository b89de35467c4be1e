"""Where something was found: the first character, and the one after the last."""

Span = tuple[int, int]
