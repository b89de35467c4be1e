"""``manifest.json``: what a prepared corpus consists of. It is written last: where it is, all is there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from isoflop.files import write_bytes

FORMAT = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Shard:
    """One file of token ids. ``documents`` begin in it; its tokens stand for ``text_bytes`` of UTF-8."""

    file: str
    tokens: int
    documents: int
    text_bytes: int
    checksum: str


@dataclass(frozen=True)
class Split:
    """Train or validation: the totals of its shards, in order. Tokens include begin and end of documents."""

    tokens: int
    documents: int
    text_bytes: int
    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, shards: list[Shard]) -> "Split":
        """The split that these shards make."""
        return cls(
            sum(shard.tokens for shard in shards),
            sum(shard.documents for shard in shards),
            sum(shard.text_bytes for shard in shards),
            tuple(shards),
        )


@dataclass(frozen=True)
class Manifest:
    """All there is to know about a prepared corpus without opening its shards.

    ``corpus_fingerprint`` is of the set of distinct documents; ``quarantine`` counts what was left out:
    records read, bad and empty ones with places, duplicates, and documents beyond ``max_bytes``. ``engine`` is what
    encoded the texts, with its version; it decides nothing, since all engines give the same ids.
    """

    format: int
    dtype: str
    vocab_size: int
    tokenizer_checksum: str
    corpus_fingerprint: str
    config: dict[str, Any]
    splits: dict[str, Split]
    quarantine: dict[str, Any]
    engine: str = ""

    @property
    def fingerprint(self) -> str:
        """Of the tokens, not of where they came from: the order of training depends on this."""
        shards = [(name, s.tokens, s.checksum) for name, split in sorted(self.splits.items()) for s in split.shards]
        return xxhash.xxh3_128_hexdigest(repr((self.dtype, self.tokenizer_checksum, shards)).encode())

    @property
    def tokens_dtype(self) -> np.dtype[Any]:
        """Little-endian on every machine."""
        return np.dtype(self.dtype)

    def write(self, folder: Path) -> None:
        """Write the manifest, which declares the folder complete."""
        write_bytes(folder / MANIFEST, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read and check the manifest of a folder, and that its shards have their sizes; or a ValueError."""
        path = folder / MANIFEST
        if not path.is_file():
            raise ValueError(f"{folder} is not a prepared corpus, it has no {MANIFEST}: prepare it first.")
        try:
            manifest = cls._parse(json.loads(path.read_bytes()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} cannot be used ({error}): remove {folder} and prepare it again.") from error
        manifest._check_sizes(folder)
        return manifest

    @classmethod
    def _parse(cls, fields: dict[str, Any]) -> "Manifest":
        if fields.get("format") != FORMAT:
            raise ValueError(f"format {fields.get('format')}, this version of isoflop reads {FORMAT}")
        splits = {
            name: Split.of([Shard(**shard) for shard in split["shards"]]) for name, split in fields["splits"].items()
        }
        if any(Path(shard.file).name != shard.file for split in splits.values() for shard in split.shards):
            raise ValueError("a shard lies outside the folder")
        if fields["dtype"] not in ("<u2", "<u4"):
            raise ValueError(f"dtype {fields['dtype']}")
        return cls(**{**fields, "splits": splits})

    def _check_sizes(self, folder: Path) -> None:
        for split in self.splits.values():
            for shard in split.shards:
                path, size = folder / shard.file, shard.tokens * self.tokens_dtype.itemsize
                if not path.is_file() or path.stat().st_size != size:
                    raise ValueError(f"{path} is missing or not {size} bytes: remove {folder} and prepare it again.")
