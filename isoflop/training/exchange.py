"""Whole models out and in: weights with their config and tokenizer, to and from the files that others use.

What ``isoflop export`` and ``isoflop import`` do. Both open the model and hold it against what is asked before anything
is written, so that a dry run refuses what cannot be converted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file

from isoflop.model.export import DTYPES, SCORE, Scored, export_hub, export_ours, hub_weights, refuse_existing
from isoflop.model.source import Source
from isoflop.planning.shape import Shape
from isoflop.progress import Report, silent
from isoflop.tokens import chat_template
from isoflop.tokens.gguf import vocabulary
from isoflop.tokens.hub import hub_files
from isoflop.tokens.manifest import TOKENIZER
from isoflop.tokens.specials import PAD
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.training.weights import open_weights, tokenizer_beside

Dtype = Literal["bf16", "fp32", "f16", "q8_0"]


@dataclass(frozen=True)
class HubExport:
    """A model on its way into a Hugging Face folder, a reward model with its ``score``; weights are rounded to
    ``dtype``; ``chat`` says that it answers in the chat format."""

    source: Source
    tokenizer: Tokenizer | None
    dtype: Dtype = "bf16"
    shard_bytes: int = 5 * 10**9
    chat: bool = False
    score: Scored | None = None

    @property
    def files(self) -> dict[str, int]:
        """Bytes of weights by file."""
        if self.dtype == "q8_0":
            raise ValueError("a Hugging Face folder has no q8_0; use --dtype bf16, or --format gguf")
        _ = self.beside
        found = hub_weights(self.source.shape, DTYPES[self.dtype], self.shard_bytes, self.score)
        return {name: sum(entry.bytes for entry in entries) for name, entries in found.items()}

    @cached_property
    def beside(self) -> dict[str, bytes] | None:
        """The tokenizer's files; a ValueError for one that cannot write the chat format and has to."""
        return None if self.tokenizer is None else hub_files(self.tokenizer, self.source.shape.context, chat=self.chat)

    def write(self, out: Path, report: Report = silent) -> None:
        """Write the folder ``out``, whole or not at all."""
        tokenizer = self.tokenizer
        export_hub(
            self.source,
            out,
            dtype=DTYPES[self.dtype],
            shard_bytes=self.shard_bytes,
            boundaries=None if tokenizer is None else (tokenizer.bos, tokenizer.eos),
            score=self.score,
            beside=self.beside,
            report=report,
        )


@dataclass(frozen=True)
class GGUFExport:
    """A model on its way into a GGUF file; ``chat`` says that it answers in the chat format."""

    source: Source
    tokenizer: Tokenizer | None
    dtype: Dtype = "bf16"
    chat: bool = False

    def check_tokenizer(self) -> None:
        """A ValueError for a tokenizer that llama.cpp has no way to be."""
        _ = self.vocabulary

    @cached_property
    def vocabulary(self) -> dict[str, Any]:
        """The tokenizer under GGUF's keys."""
        return {} if self.tokenizer is None else vocabulary(self.tokenizer, self.source.shape.vocab, chat=self.chat)

    @property
    def files(self) -> dict[str, int]:
        """Bytes of weights; a GGUF file has no name of its own. A ValueError for what cannot be written."""
        from isoflop.model.gguf import packed_bytes, tensors

        weights = tensors(self.source.shape, self.dtype).values()
        self.check_tokenizer()
        return {"weights": sum(packed_bytes(*entry) for entry in weights)}

    def write(self, out: Path, report: Report = silent) -> None:
        """Write the file ``out``, whole or not at all."""
        from isoflop.model.gguf import export_gguf

        name = out.stem
        export_gguf(self.source, out, packing=self.dtype, vocabulary=self.vocabulary, name=name, report=report)


def open_with_tokenizer(
    model: Path, tokenizer: Path | None = None, *, averaged: bool = False
) -> tuple[Source, Tokenizer | None]:
    """The weights at ``model`` and their tokenizer, the one given or the one beside them; None where there is none.

    ``averaged`` asks for the mean of a run's weights.

    Raises ValueError where there are no weights, or the tokenizer cannot be used or has more ids than the model.
    """
    source = open_weights(model, averaged=averaged)
    path = tokenizer or tokenizer_beside(model)
    if path is None:
        return source, None
    found = Tokenizer.load(path)
    if found.vocab_size > source.shape.vocab:
        raise ValueError(f"{path} has {found.vocab_size:,} ids and the model only {source.shape.vocab:,}")
    return source, found


def score_beside(model: Path, tokenizer: Tokenizer | None) -> Scored | None:
    """What makes a reward model of the model at this path; None where nothing does."""
    if not (model / SCORE).exists():
        return None
    return Scored(load_file(model / SCORE)["score"], None if tokenizer is None else tokenizer.special(PAD))


@dataclass(frozen=True)
class Import:
    """A model on its way in; ``trouble`` says why it comes without its tokenizer, where it does; ``template`` is the
    chat template beside it, if there is one."""

    source: Source
    tokenizer: Tokenizer | None
    trouble: str = ""
    template: str | None = None

    @classmethod
    def open(cls, model: Path) -> Import:
        """Open a Hugging Face folder, a GGUF file, or whatever else has weights; a ValueError where it is no Llama."""
        source = open_weights(model)
        if (path := tokenizer_beside(model)) is None:
            return cls(source, None, "none lies beside the model")
        try:
            return cls(source, Tokenizer.load(path), template=chat_template.template_beside(model))
        except ValueError as error:
            return cls(source, None, str(error))

    @property
    def shape(self) -> Shape:
        """The model's."""
        return self.source.shape

    def write(self, out: Path, report: Report = silent) -> None:
        """Write a folder that a run can begin with, whole or not at all."""
        refuse_existing(out)
        beside = {} if self.tokenizer is None else {TOKENIZER: self.tokenizer.to_bytes()}
        if self.template is not None:
            beside[chat_template.FILE] = self.template.encode()
        export_ours(self.source, out, beside=beside, report=report)
