"""From documents to the batches that a model trains on.

``prepare`` turns a corpus into a tokenizer and memory-mapped shards of token ids, once. ``TokenDataset``
opens them, and ``Loader`` says which tokens come next as a function of one integer. ``Mixture`` names several such
folders and their shares, ``blended_loaders`` is its stream and ``Ledger`` its arithmetic.
"""

from isoflop.tokens.blended import BlendedLoader, blended_loaders, open_sources
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.ledger import Ledger
from isoflop.tokens.loader import FixedSamples, Loader
from isoflop.tokens.manifest import Manifest, Shard, Split
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.tokens.order import Permutation
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.train import train_tokenizer

__all__ = [
    "Blend",
    "BlendedLoader",
    "FixedSamples",
    "Ledger",
    "Loader",
    "Manifest",
    "Mixture",
    "Permutation",
    "PrepareConfig",
    "Shard",
    "Source",
    "Split",
    "TokenDataset",
    "Tokenizer",
    "blended_loaders",
    "open_sources",
    "prepare",
    "train_tokenizer",
]
