"""From documents to the batches that a model trains on.

``prepare`` turns a corpus into a tokenizer and memory-mapped shards of token ids, once. ``TokenDataset``
opens them, and ``Loader`` says which tokens come next as a function of one integer.
"""

from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import FixedSamples, Loader
from isoflop.tokens.manifest import Manifest, Shard, Split
from isoflop.tokens.order import Permutation
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.train import train_tokenizer

__all__ = [
    "FixedSamples",
    "Loader",
    "Manifest",
    "Permutation",
    "PrepareConfig",
    "Shard",
    "Split",
    "TokenDataset",
    "Tokenizer",
    "prepare",
    "train_tokenizer",
]
