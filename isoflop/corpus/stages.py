"""Every cleaning stage by the name that configs call it, imported only when somebody asks for it.

A stage becomes known by a line here; nothing else in the pipeline knows one stage from another. Costs nothing until
a stage is built, because some of them load models.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from isoflop import config
from isoflop.corpus.stage import Stage

STAGES: dict[str, str] = {
    # sources with a cleaner of their own
    "html": "isoflop.corpus.sources.html:Html",
    "wikipedia": "isoflop.corpus.sources.wikipedia:Wikipedia",
    "arxiv": "isoflop.corpus.sources.arxiv:Arxiv",
    "stackexchange": "isoflop.corpus.sources.stackexchange:StackExchange",
    "books": "isoflop.corpus.sources.books:Books",
    "github": "isoflop.corpus.sources.github:Github",
    "pii": "isoflop.corpus.pii:Pii",
    # rules
    "normalize": "isoflop.corpus.rules.normalize:Normalize",
    "url": "isoflop.corpus.rules.url:Url",
    "gopher_quality": "isoflop.corpus.rules.gopher_quality:GopherQuality",
    "gopher_repetition": "isoflop.corpus.rules.gopher_repetition:GopherRepetition",
    "c4": "isoflop.corpus.rules.c4:C4",
    "fineweb": "isoflop.corpus.rules.fineweb:FineWeb",
    "ccnet_length": "isoflop.corpus.rules.ccnet:CCNetLength",
    "llama3_lines": "isoflop.corpus.rules.llama3_lines:RepeatedLines",
    "llama3_words": "isoflop.corpus.rules.llama3_words:DirtyWords",
    "llama3_tokens": "isoflop.corpus.rules.llama3_tokens:TokenOutliers",
    # duplicates
    "exact_duplicates": "isoflop.corpus.dedup.exact:ExactDuplicates",
    "near_duplicates": "isoflop.corpus.dedup.minhash:NearDuplicates",
    "duplicate_lines": "isoflop.corpus.dedup.lines:DuplicateLines",
    "duplicate_paragraphs": "isoflop.corpus.dedup.lines:DuplicateParagraphs",
    "repeated_spans": "isoflop.corpus.dedup.substring:RepeatedSpans",
    "book_overlap": "isoflop.corpus.dedup.books:BookOverlap",
    "decontaminate": "isoflop.corpus.dedup.decontaminate:Decontaminate",
    # models
    "language": "isoflop.corpus.models.language:Language",
    "quality_classifier": "isoflop.corpus.models.quality:QualityClassifier",
    "perplexity": "isoflop.corpus.models.perplexity:Perplexity",
    "topics": "isoflop.corpus.models.topics:TopicSampling",
}


def stage_class(name: str) -> type[Stage]:
    """The class of the stage called ``name``. Raises ValueError that suggests the nearest name."""
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(STAGES)}"
        raise ValueError(f"there is no cleaning stage {name!r}; {hint}")
    module, _, title = STAGES[name].partition(":")
    found: type[Stage] = getattr(importlib.import_module(module), title)
    return found


def build_stage(name: str, settings: dict[str, Any], where: str) -> Stage:
    """The stage called ``name`` with these thresholds. Raises ValueError naming the key at fault."""
    return config.from_dict(stage_class(name), settings, where)
