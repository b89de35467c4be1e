"""The formats in which post-training data come: detected row by row, named, converted. Knows no torch.

OpenAI messages, ShareGPT, Alpaca, prompt and completion, question and answer; preferences with an explicit or implicit
prompt, HH's, rankings with ranks, scores or an edited answer, KTO's labels.
"""

from isoflop.posttraining.formats.known import FIELDS, Example
from isoflop.posttraining.formats.read import Placed, read_conversations, read_examples, read_prompts, read_rankings
from isoflop.posttraining.formats.tally import Tally, Unusable
from isoflop.posttraining.formats.write import to_row, write_rows

__all__ = [
    "FIELDS",
    "Example",
    "Placed",
    "Tally",
    "Unusable",
    "read_conversations",
    "read_examples",
    "read_prompts",
    "read_rankings",
    "to_row",
    "write_rows",
]
