"""Rotary embeddings stretched to longer contexts, Llama 3.1's way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RopeScaling:
    """Frequencies slowed by their wavelength, as Llama 3.1 and 3.2 do (transformers' ``rope_type = "llama3"``).

    Wavelengths below ``original`` / ``high`` tokens are kept, those above ``original`` / ``low`` become ``factor``
    times longer, and between the two frequencies are blended linearly in ``original`` / wavelength. The defaults are
    Llama 3.1's; Llama 3.2 1B and 3B have a factor of 32.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def __post_init__(self) -> None:
        """Refuse a stretch that shortens, or bands that cross."""
        if self.factor < 1 or self.original < 1:
            raise ValueError(f"rope scaling needs a factor and an original context of at least 1: {self}")
        if not 0 < self.low < self.high:
            raise ValueError(f"rope scaling needs 0 < low < high, not {self.low} and {self.high}")
