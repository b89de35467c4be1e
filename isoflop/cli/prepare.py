"""``isoflop prepare``: a corpus into a tokenizer and token shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Reads a corpus, drops exact duplicates, holds out validation documents, trains a tokenizer or takes
one that is given, and writes memory-mapped token shards with a manifest.

examples:
  isoflop prepare --corpus my_texts/ --vocab-size 8192 --out tokens/
  isoflop prepare --corpus python --max-bytes 50000000 --out tokens/
  isoflop prepare --corpus other_texts/ --tokenizer tokens/tokenizer.json --out more_tokens/
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop prepare``.

    Attributes:
        out: Folder for tokenizer.json, the shards and manifest.json.
        corpus: A file or folder of .txt, .md, .html, .jsonl, .parquet, .warc or .wet, lines and web archives also
            compressed (.gz, .zst), or "python".
        vocab_size: Size of the vocabulary to train, special tokens included; 8192 by default.
        tokenizer_kind: Kind of tokenizer to train: bpe, sentencepiece-bpe or unigram.
        tokenizer: A tokenizer.json, or a folder with one such as a Hugging Face model's, to use instead of training
            one: corpora that share it can be mixed, and a run can go on from that model.
        validation_fraction: Share of documents held out, chosen by a hash of their content.
        max_bytes: Read at most this much text, sampled from every source.
        bad_fraction: Share of bad records, and of bytes in damaged files, above which the corpus is refused.
        seed: Seed of the split, the sample and the order.
    """

    out: Path
    corpus: str = "python"
    vocab_size: int | None = None
    tokenizer_kind: str | None = None
    tokenizer: Path | None = None
    validation_fraction: float = 0.02
    max_bytes: int | None = None
    bad_fraction: float = 0.01
    seed: int = 0


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop prepare", description=DESCRIPTION)
    from isoflop.cli.tables import left_out
    from isoflop.progress import console
    from isoflop.tokens.prepare import PrepareConfig, prepare

    if a.tokenizer is not None and (a.vocab_size is not None or a.tokenizer_kind is not None):
        raise ValueError(
            f"--tokenizer {a.tokenizer} has a kind and a size of its own: leave out --tokenizer-kind and --vocab-size, "
            "or leave out --tokenizer to train another"
        )
    shared = None if a.tokenizer is None else str(a.tokenizer)
    config = PrepareConfig(
        a.corpus,
        PrepareConfig.vocab_size if a.vocab_size is None else a.vocab_size,
        a.validation_fraction,
        a.max_bytes,
        seed=a.seed,
        tokenizer=shared,
        tokenizer_kind=a.tokenizer_kind or PrepareConfig.tokenizer_kind,
        bad_fraction=a.bad_fraction,
    )
    with console() as report:
        manifest = prepare(config, a.out, report)
    for name, split in manifest.splits.items():
        ratio = split.text_bytes / split.tokens
        print(f"{name:<11} {split.documents:>9,} documents {split.tokens:>14,} tokens  {ratio:.2f} bytes per token")
    if gone := left_out(manifest.quarantine):
        of = f"{manifest.quarantine['records']:,} records: {a.out / 'manifest.json'} says why"
        print(f"{'left out':<11} {gone} of {of}")
