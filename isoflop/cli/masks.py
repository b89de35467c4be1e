"""``isoflop masks``: which tokens of a data set are trained on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.posttraining.chat import Chat
    from isoflop.posttraining.conversation import Conversation, Ranking
    from isoflop.posttraining.formats import Placed, Tally
    from isoflop.posttraining.masks_view import Part, Piece, Statistics

DESCRIPTION = """Shows examples of post-training data token by token, in colours: what is given to the model, the header
of its message, its answer, its end. Fine-tuning trains on answer and end; DPO compares answers alone. Says how much of
all tokens that is, and how many examples the context cuts. Data that train on nothing are an error.

examples:
  isoflop masks chats.jsonl --model runs/mine
  isoflop masks pairs.json --model runs/mine --limit 10 --html masks.html
  isoflop masks rows.jsonl --model tokenizer.json --columns prompt=question,answer=reply --context 2048
"""

CONTEXT = 8192
"""Llama 3's, for a tokenizer without a model."""
STYLES = {"GIVEN": "dim", "HEADER": "blue", "ANSWER": "green", "END": "bold yellow"}
UNSEEN = "red strike"


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop masks``.

    Attributes:
        data: Files or folders of JSON, JSON lines or parquet, in any of the formats that are known.
        model: Whose tokenizer and context: a run, any other model, or a tokenizer.json.
        limit: Examples to show; all are counted.
        context: Tokens that an example may have, by default the model's context.
        read_as: Responses with their order, or the best of them as a conversation; auto is what the first row is.
        columns: Others' names for fields, as ours=theirs,ours=theirs.
        html: Write the examples to a page instead.
        json: Print what was counted as JSON, and no example.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    model: Path
    limit: int = 3
    context: int = 0
    read_as: Literal["auto", "conversations", "rankings"] = "auto"
    columns: str = ""
    html: Path | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop masks", description=DESCRIPTION)
    if not a.data:
        raise ValueError("which data? give files or folders of conversations or preferences")
    if a.limit < 0 or a.context < 0:
        raise ValueError(f"--limit and --context are 0 or more, not {a.limit} and {a.context}")
    from isoflop.files import write_text
    from isoflop.posttraining.formats import Tally
    from isoflop.posttraining.masks_view import Statistics, parts
    from isoflop.progress import console

    chat, own = opened(a.model)
    tally, found = Tally(), Statistics(a.context or own)
    examples: list[tuple[str, list[Part]]] = []
    values = list(read(a, tally))
    with console() as report:
        for done, one in enumerate(values, 1):
            found.add(chat, one.value, one.place)
            if len(examples) < a.limit:
                examples.append((one.place, parts(chat, one.value, found.context)))
            report("tokens", done, len(values))
    found.check()
    if a.html is not None:
        from isoflop.cli.masks_page import page

        write_text(a.html, page(examples, found, str(tally)))
    if a.json:
        print(json.dumps({**found.to_json(), "reading": tally.to_json(), "html": str(a.html) if a.html else None}))
        return
    if a.html is None:
        for place, shown in examples:
            show(place, shown)
    print(summary(found, tally) + (f"\n{a.html}: {len(examples)} examples" if a.html else ""))


def opened(model: Path) -> tuple[Chat, int]:
    """The chat format over the tokenizer of a model or a file, and the context."""
    from isoflop.posttraining.chat import Chat
    from isoflop.tokens.tokenizer import Tokenizer

    if model.suffix == ".json":
        return Chat(Tokenizer.load(model)), CONTEXT
    from isoflop.training.weights import open_weights, tokenizer_beside

    if (file := tokenizer_beside(model)) is None:
        raise ValueError(f"no tokenizer.json lies beside the model at {model}; give the path of one")
    return Chat(Tokenizer.load(file)), open_weights(model).shape.context


def read(a: Arguments, tally: Tally) -> Iterator[Placed[Conversation] | Placed[Ranking]]:
    """The examples, as rankings where that is asked for or the first row is one."""
    from isoflop.posttraining.formats import FIELDS, Tally, read_conversations, read_examples, read_rankings
    from isoflop.posttraining.formats.columns import parse

    columns = parse(a.columns, FIELDS)
    rankings = a.read_as == "rankings"
    if a.read_as == "auto":
        rankings = len(next(read_examples(a.data, Tally(), columns=columns)).value.responses) > 1
    return (read_rankings if rankings else read_conversations)(a.data, tally, columns=columns)


def show(place: str, parts: list[Part]) -> None:
    """Print an example: in colours on a terminal, elsewhere a stretch a line behind its kind."""
    from isoflop.report.markup import visible

    print(f"--- {place}")
    for part in parts:
        if part.title:
            print(f"[{part.title}]")
        if sys.stdout.isatty():
            coloured(part.pieces)
            continue
        for label, pieces in groupby(part.pieces, lambda piece: piece.kind.name.lower() if piece.seen else "cut off"):
            said = "".join(map(visible, "".join(piece.text for piece in pieces)))
            print("\n".join(f"{label if not i else '':>7} | {line}" for i, line in enumerate(said.split("\n"))))
    print()


def coloured(pieces: list[Piece]) -> None:
    """Print pieces in the colours of their kinds, every other one underlined so that tokens can be told apart."""
    from rich.console import Console
    from rich.text import Text

    from isoflop.report.markup import visible

    line = Text()
    for number, piece in enumerate(pieces):
        style = STYLES[piece.kind.name] if piece.seen else UNSEEN
        line.append("".join(map(visible, piece.text)), f"{style} underline" if number % 2 else style)
    Console(highlight=False).print(line, soft_wrap=True)


def summary(found: Statistics, tally: Tally) -> str:
    """What was counted, in words."""
    from isoflop.posttraining.chat import COMPARED, TRAINED

    total = found.tokens.total()
    lines = [
        f"{found.examples:,} examples, {total:,} tokens: {found.share(TRAINED):.1%} are answers and their ends, which "
        f"fine-tuning trains on, {found.share(COMPARED):.1%} answers alone, which DPO compares",
        f"the longest has {found.longest:,} tokens ({found.longest_place}); the context of {found.context:,} cuts "
        f"{found.cut:,} ({found.cut / found.examples:.1%}), and {found.lost:,} have nothing left to train on",
        f"read {tally}",
    ]
    return "\n".join(lines)
