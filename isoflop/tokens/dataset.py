"""A prepared corpus, opened: its manifest, its tokenizer, and its tokens without reading them."""

from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from isoflop.tokens.manifest import TOKENIZER, Manifest, Split
from isoflop.tokens.shards import Tokens
from isoflop.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenDataset:
    """A folder that ``prepare`` made. Opening it costs the same whatever its size."""

    folder: Path
    manifest: Manifest
    tokenizer: Tokenizer
    _streams: dict[str, Tokens] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str | Path) -> "TokenDataset":
        """Open a prepared folder; a ValueError if it is none, or not the one that its manifest describes."""
        folder = Path(folder)
        manifest = Manifest.read(folder)
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        if tokenizer.checksum != manifest.tokenizer_checksum:
            raise ValueError(
                f"{folder / TOKENIZER} is not the tokenizer that made these tokens: "
                f"remove {folder} and prepare it again."
            )
        return cls(folder, manifest, tokenizer)

    def split(self, name: str) -> Split:
        """Totals and shards of "train" or "validation"."""
        if name not in self.manifest.splits:
            raise ValueError(f"no split {name!r}: there are {', '.join(self.manifest.splits)}.")
        return self.manifest.splits[name]

    def tokens(self, name: str) -> Tokens:
        """All tokens of a split as one memory-mapped stream, mapped once."""
        if name not in self._streams:
            self._streams[name] = Tokens(self.folder, self.split(name).shards, self.manifest.tokens_dtype)
        return self._streams[name]

    def bytes_per_token(self, name: str) -> float:
        """UTF-8 bytes of text for each token of a split, the begin and end of documents among the tokens.

        A loss of L nats per token over the split is L / ln 2 / bytes_per_token bits per byte.
        """
        split = self.split(name)
        return split.text_bytes / split.tokens

    def verify(self) -> None:
        """Read every shard; a ValueError names the first whose bytes are not those that were written."""
        for split in self.manifest.splits.values():
            for shard in split.shards:
                digest = xxhash.xxh3_128()
                with (self.folder / shard.file).open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
                if digest.hexdigest() != shard.checksum:
                    raise ValueError(
                        f"{self.folder / shard.file} is damaged, its checksum differs from the manifest's: "
                        f"remove {self.folder} and prepare it again."
                    )
