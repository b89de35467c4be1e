"""CCNet's length rule: what is too short to tell anything about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.rules.limits import Limit, within
from isoflop.corpus.stage import Stage, Verdict


@dataclass(frozen=True)
class CCNetLength(Stage):
    """Wenzek et al. 2020 (arXiv 1911.00359): documents below 300 characters go before anything else is asked.

    The limit stands in CCNet's code (``min_len`` of its mining configuration), not in the paper. Letters of scripts
    without spaces say more each, and the limit is the same.
    """

    name: ClassVar[str] = "ccnet_length"

    min_characters: int = 300

    def judge_one(self, document: Document) -> Verdict:
        """The document, or how short it is."""
        return within(document, [Limit("characters", len(document.text), low=self.min_characters)])
