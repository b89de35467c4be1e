"""From a corpus to a tokenizer and shards of token ids, once.

    read → drop exact duplicates → hold out validation → train the tokenizer on train → encode → shards

The corpus is streamed three times (a survey of content hashes, the tokenizer's sample, the encoding), so that
no more of it is in memory than a batch and 32 bytes a document; ``benchmarks/tokenise.py`` measures how fast. Every
file is committed whole and the manifest last: a folder with a manifest is complete, one without is started anew,
which is simpler than going on and costs no more than one run.

Left out: near duplicates and quality rules, which are the corpus's business and change which documents arrive
here; and mixing sources, which is the order of training's.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus import CorpusError, Document, Reading, documents
from isoflop.files import NO_SPACE, TEMPORARY, locked
from isoflop.keys import derive_key
from isoflop.progress import Report, silent
from isoflop.tokens.batches import batches
from isoflop.tokens.manifest import FORMAT, MANIFEST, TOKENIZER, Manifest, Split
from isoflop.tokens.selection import LOW_HALF, Mask, Survey, content_hash, survey
from isoflop.tokens.shards import ShardWriter
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.train import LARGEST_SAMPLE, check_tokenizer, train_tokenizer

LOCK = ".isoflop-lock"


@dataclass(frozen=True)
class PrepareConfig:
    """What decides the tokens. Sizes are bytes of UTF-8 text unless they say tokens.

    ``corpus`` is "python" or a path. A corpus larger than ``max_bytes`` is sampled: documents are taken in
    the order of a keyed hash of their content, from every source (JSON lines file, top folder or package) in
    proportion to its number of documents, and at least one from each as long as they fit. Validation gets
    each document with probability ``validation_fraction``, and one at least.

    ``tokenizer`` is the path of a tokenizer.json to use, so that several corpora share one and can be mixed. Without it
    one of ``vocab_size`` ids is trained on this corpus, of the kind "bpe", "sentencepiece-bpe" or "unigram".

    The corpus is refused where more than ``bad_fraction`` of its records are bad, or of its bytes in damaged files.
    """

    corpus: str = "python"
    vocab_size: int = 8192
    validation_fraction: float = 0.02
    max_bytes: int | None = None
    tokenizer_bytes: int = 10_000_000
    shard_tokens: int = 2**28
    seed: int = 0
    tokenizer: str | None = None
    tokenizer_kind: str = "bpe"
    bad_fraction: float = 0.01

    def __post_init__(self) -> None:
        check_tokenizer(self.tokenizer_kind, self.vocab_size)
        if not 0 < self.validation_fraction <= 0.5:
            raise ValueError(f"validation_fraction is {self.validation_fraction}: it must be above 0, at most 0.5.")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}: it must be positive, or absent for the whole corpus.")
        if not 1 <= self.tokenizer_bytes <= LARGEST_SAMPLE:
            raise ValueError(f"tokenizer_bytes is {self.tokenizer_bytes}: it must be in 1…{LARGEST_SAMPLE}.")
        if not 0 <= self.bad_fraction <= 1:
            raise ValueError(f"bad_fraction is {self.bad_fraction}: it must be in 0…1.")
        if self.shard_tokens < 1:
            raise ValueError(f"shard_tokens is {self.shard_tokens}: it must be positive.")


def prepare(config: PrepareConfig, out: Path, report: Report = silent) -> Manifest:
    """Prepare ``config.corpus`` in the folder ``out``; at once if that has been done already.

    Raises ValueError (CorpusError for the corpus) if the corpus cannot be used or is too small, if ``out``
    holds a corpus prepared with another config or something else altogether, or if the disk is full.
    ``report`` is told (stage, done, total) in bytes; the stages are "read", "tokenizer" and "encode".
    """
    out = Path(out)
    if (out / MANIFEST).exists():
        return _existing(config, out)
    _claim(out)
    with locked(out / LOCK):
        if (out / MANIFEST).exists():  # another process was preparing it while this one waited
            return _existing(config, out)
        _clear(out)
        try:
            return _prepare(config, out, report)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            _clear(out)
            raise ValueError(
                f"the disk is full: {out} cannot hold the tokens (about 0.6 bytes for each byte of text). "
                "Free some space, choose another folder, or set max_bytes."
            ) from error


def _prepare(config: PrepareConfig, out: Path, report: Report) -> Manifest:
    reading = Reading(config.bad_fraction)
    found = survey(_watched(documents(config.corpus, reading), reading, report))
    roles = _roles(config, found)
    if config.tokenizer is None:
        tokenizer = _train_tokenizer(config, found, roles, report)
    else:
        tokenizer = _given_tokenizer(config.tokenizer, config.vocab_size)
    tokenizer.save(out / TOKENIZER)
    dtype = "<u2" if tokenizer.vocab_size <= 2**16 else "<u4"
    splits = _encode(config, found, roles, tokenizer, out, np.dtype(dtype), report)
    manifest = Manifest(
        format=FORMAT,
        dtype=dtype,
        vocab_size=tokenizer.vocab_size,
        tokenizer_checksum=tokenizer.checksum,
        corpus_fingerprint=found.fingerprint(roles.distinct),
        config=asdict(config),
        splits=splits,
        quarantine={
            "records": reading.records,
            "bad": reading.bad,
            "empty": reading.empty,
            "damaged": reading.damaged,
            "damaged_bytes": reading.damaged_bytes,
            "links": reading.links,
            "duplicates": int(np.count_nonzero(~roles.distinct)),
            "beyond_max_bytes": int(np.count_nonzero(roles.distinct & ~roles.kept)),
            "places": reading.places,
        },
        engine=tokenizer.engine,
    )
    manifest.write(out)
    return manifest


@dataclass(frozen=True)
class _Roles:
    """What becomes of each document, as masks of shape (documents,)."""

    distinct: Mask
    train: Mask
    validation: Mask

    @property
    def kept(self) -> Mask:
        return self.train | self.validation


def _roles(config: PrepareConfig, found: Survey) -> _Roles:
    distinct = kept = found.first_occurrences()
    if config.max_bytes is not None:
        order = found.spread(distinct, derive_key(config.seed, "max_bytes"))
        fits = np.cumsum(found.text_bytes[order]) <= config.max_bytes
        kept = np.zeros_like(distinct)
        kept[order[fits]] = True
    if np.count_nonzero(kept) < 2:
        raise CorpusError(
            f"{config.corpus} has {np.count_nonzero(distinct)} distinct documents, "
            f"{np.count_nonzero(kept)} of them within max_bytes: at least two are needed, "
            "one to train on and one to hold out."
        )
    validation = found.held_out(kept, config.validation_fraction, derive_key(config.seed, "validation"))
    if not (kept & ~validation).any():
        raise CorpusError(
            f"all {np.count_nonzero(kept)} documents of {config.corpus} were drawn for validation: "
            "lower validation_fraction or give more documents."
        )
    return _Roles(distinct, kept & ~validation, validation)


def _given_tokenizer(path: str, vocab_size: int) -> Tokenizer:
    """A tokenizer from its file; one of another size than was asked for is refused."""
    tokenizer = Tokenizer.load(path)
    if vocab_size not in (PrepareConfig.vocab_size, tokenizer.vocab_size):
        raise ValueError(
            f"{path} has {tokenizer.vocab_size:,} ids and not the {vocab_size:,} that were asked for: leave out the "
            "size, or the tokenizer to have one trained"
        )
    return tokenizer


def _train_tokenizer(config: PrepareConfig, found: Survey, roles: _Roles, report: Report) -> Tokenizer:
    order = found.spread(roles.train, derive_key(config.seed, "tokenizer"))
    fits = np.cumsum(found.text_bytes[order]) <= config.tokenizer_bytes
    fits[0] = True  # a first document larger than the sample is cut to its size
    sample = np.zeros_like(roles.train)
    sample[order[fits]] = True
    total = float(found.text_bytes[sample].sum())

    def texts() -> Iterator[str]:
        done = 0
        for index, text in _reread(config, found, sample):
            yield text
            done += int(found.text_bytes[index])
            report("tokenizer", done, total)

    return train_tokenizer(texts(), config.vocab_size, config.tokenizer_bytes, config.tokenizer_kind)


def _encode(
    config: PrepareConfig,
    found: Survey,
    roles: _Roles,
    tokenizer: Tokenizer,
    out: Path,
    dtype: np.dtype[Any],
    report: Report,
) -> dict[str, Split]:
    writers = {
        name: ShardWriter(out, name, dtype, config.shard_tokens, tokenizer.byte_lengths, tokenizer.bos)
        for name in ("train", "validation")
    }
    begin, end = np.array([tokenizer.bos], np.uint32), np.array([tokenizer.eos], np.uint32)
    done, total = 0, float(found.text_bytes[roles.kept].sum())
    try:
        for batch in batches(_reread(config, found, roles.kept)):
            encoded = tokenizer.encode_batch([text for _, text in batch])
            rows: dict[str, list[NDArray[np.uint32]]] = {name: [] for name in writers}
            for (index, _), ids in zip(batch, encoded, strict=True):
                rows["validation" if roles.validation[index] else "train"] += (begin, ids, end)
                done += int(found.text_bytes[index])
            for name, row in rows.items():
                if row:
                    writers[name].write(np.concatenate(row, dtype=np.int64))
            report("encode", done, total)
        splits = {name: writer.close() for name, writer in writers.items()}
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise
    assert sum(split.text_bytes for split in splits.values()) == total, "encoding lost text"
    return splits


def _reread(config: PrepareConfig, found: Survey, wanted: Mask) -> Iterator[tuple[int, str]]:
    """The wanted documents with their numbers; a corpus that changed since the survey is an error."""
    indices = np.flatnonzero(wanted)
    last, index = int(indices[-1]), -1
    for index, document in enumerate(documents(config.corpus, Reading(config.bad_fraction))):
        if index < len(wanted) and wanted[index]:
            if content_hash(document.text.encode("utf-8")) & LOW_HALF != found.low[index]:
                break
            yield index, document.text
        if index == last:
            return
    raise CorpusError(f"{config.corpus} changed while it was being read: start again when nothing writes to it.")


def _existing(config: PrepareConfig, out: Path) -> Manifest:
    manifest = Manifest.read(out)
    for field in fields(config):
        ours, theirs = getattr(config, field.name), manifest.config.get(field.name, field.default)
        if ours != theirs:
            raise ValueError(
                f"{out} was prepared with {field.name} = {theirs!r}, and now it is {ours!r}: "
                "prepare into another folder, or remove this one."
            )
    if config.tokenizer is not None and Tokenizer.load(config.tokenizer).checksum != manifest.tokenizer_checksum:
        raise ValueError(
            f"{out} was prepared with another tokenizer than {config.tokenizer} is now: "
            "prepare into another folder, or remove this one."
        )
    return manifest


def _claim(out: Path) -> None:
    """Make the folder, and refuse one that holds something else: what is in it would be overwritten."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to prepare into.")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / LOCK).exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty, and not a corpus being prepared: give a new or empty folder.")


def _clear(out: Path) -> None:
    """Remove what an interrupted preparation left behind."""
    for pattern in ("*.bin", TOKENIZER, f"*{TEMPORARY}"):
        for file in out.glob(pattern):
            file.unlink()


def _watched(found: Iterator[Document], reading: Reading, report: Report) -> Iterator[Document]:
    for document in found:
        yield document
        report("read", reading.disk_bytes_read, reading.disk_bytes)
