"""``isoflop tokenizers``: train one, or put several side by side on a corpus."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from isoflop.tokens.compare import Comparison

DESCRIPTION = """Trains a tokenizer, or compares tokenizers: bytes per token in every group of a corpus, tokens per
word, the share of ids that nothing uses, whether digits stand alone, and what the vocabulary costs a model.

examples:
  isoflop tokenizers train --corpus my_texts/ --vocab-size 16384 --kind unigram --out unigram.json
  isoflop tokenizers compare a/tokenizer.json unigram.json --corpus my_texts/ --by language
"""

COLUMNS = (
    "tokenizer",
    "kind",
    "ids",
    "bytes/token",
    "tokens",
    "tokens/word",
    "unused",
    "digits",
    "embedding",
    "FLOPs/byte",
)


@dataclass(frozen=True)
class Compare:
    """Put tokenizers side by side.

    Attributes:
        files: tokenizer.json files; the first is what the others are measured against.
        corpus: A file or folder, or "python".
        by: What a group is: source, language, or anything else that the records say.
        group_bytes: Encode the first so many bytes of every group.
        groups: Tell so many groups apart, those of most text.
        params: Parameters of a model without its embedding, to say what the vocabulary costs it.
        json: Print as JSON.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    corpus: str = "python"
    by: str = "source"
    group_bytes: int = 1_000_000
    groups: int = 30
    params: float = 1e7
    json: bool = False


@dataclass(frozen=True)
class Train:
    """Train a tokenizer on the beginning of a corpus; ``isoflop prepare`` trains one on a sample of all of it.

    Attributes:
        out: File to write.
        corpus: A file or folder, or "python".
        vocab_size: Size of the vocabulary, special tokens included.
        kind: bpe, sentencepiece-bpe or unigram.
        max_bytes: Read at most this much text.
    """

    out: Path
    corpus: str = "python"
    vocab_size: int = 8192
    kind: str = "bpe"
    max_bytes: int = 10_000_000


Commands = Annotated[Compare, tyro.conf.subcommand("compare")] | Annotated[Train, tyro.conf.subcommand("train")]


def main(arguments: list[str]) -> None:
    """Run the command."""
    a: Any = tyro.cli(Commands, args=arguments, prog="isoflop tokenizers", description=DESCRIPTION)
    if isinstance(a, Train):
        _train(a)
    else:
        _compare(a)


def _train(a: Train) -> None:
    from isoflop.corpus import documents
    from isoflop.tokens import train_tokenizer

    if a.out.is_dir():
        raise ValueError(f"{a.out} is a folder: give the file to write, such as {a.out / 'tokenizer.json'}")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    texts = (document.text for document in documents(a.corpus))
    tokenizer = train_tokenizer(texts, a.vocab_size, a.max_bytes, a.kind)
    tokenizer.save(a.out)
    print(f"{a.out}: {tokenizer.kind}, {tokenizer.vocab_size:,} ids, checksum {tokenizer.checksum}")


def _compare(a: Compare) -> None:
    from isoflop.corpus import documents
    from isoflop.tokens.compare import compare
    from isoflop.tokens.tokenizer import Tokenizer

    if not a.files:
        raise ValueError("which tokenizers? give one tokenizer.json or more")
    if not 0 < a.params < math.inf:
        raise ValueError(f"--params is {a.params:g}: it must be above 0")
    tokenizers = {str(file): Tokenizer.load(file) for file in a.files}
    found = compare(tokenizers, documents(a.corpus), a.by, a.group_bytes, a.groups)
    if a.json:
        print(json.dumps(summary(found, a.params), indent=1))
    else:
        _show(found, a)


def summary(found: Comparison, params: float) -> dict[str, Any]:
    """All that was measured, and costs for a model of ``params`` parameters without embedding, as JSON values."""
    from dataclasses import asdict

    from isoflop.planning.ladder import near
    from isoflop.tokens.compare import digits_alone

    rows = {}
    for name, counts in found.counts.items():
        _, shape = min(near(params, counts.tokenizer.vocab_size, counts="body"), key=lambda pair: pair[0])
        rows[name] = {
            "kind": counts.tokenizer.kind,
            "vocab_size": counts.tokenizer.vocab_size,
            "digits_alone": digits_alone(counts.tokenizer),
            "unused_share": counts.unused,
            "entropy_bits": counts.entropy,
            "tokens": counts.tokens["all"],
            "bytes_per_token": {group: found.bytes_per_token(name, group) for group in found.texts},
            "fertility": {group: found.fertility(name, group) for group in found.texts},
            "body_params": shape.body,
            "embedding_params": shape.vocab * shape.width,
            "flops_per_byte": 6 * shape.matmul / found.bytes_per_token(name),
        }
    return {"texts": {group: asdict(text) for group, text in found.texts.items()}, "tokenizers": rows}


def _show(found: Comparison, a: Compare) -> None:
    from isoflop.cli.tables import show
    from isoflop.planning.shape import human

    rows = summary(found, a.params)["tokenizers"]
    first = next(iter(rows.values()))
    print(f"{found.texts['all'].text_bytes:,} bytes of {a.corpus}; costs of a model with {human(a.params)} parameters")
    show(
        COLUMNS,
        [
            (
                name,
                row["kind"],
                f"{row['vocab_size']:,}",
                f"{row['bytes_per_token']['all']:.3f}",
                f"{row['tokens'] / first['tokens'] - 1:+.1%}",
                f"{row['fertility']['all']:.2f}",
                f"{row['unused_share']:.1%}",
                "alone" if row["digits_alone"] else "merged",
                human(row["embedding_params"]),
                f"{row['flops_per_byte']:.3g} ({row['flops_per_byte'] / first['flops_per_byte'] - 1:+.0%})",
            )
            for name, row in rows.items()
        ],
    )
    print(f"\nbytes per token by {a.by}")
    show(
        (a.by, "bytes", *rows),
        [
            (group, f"{text.text_bytes:,}", *(f"{row['bytes_per_token'][group]:.3f}" for row in rows.values()))
            for group, text in found.texts.items()
        ],
    )
