"""The mean of several models' weights: of stages that differ in their data, seed or settings (Llama 3, arXiv
2407.21783, section 4.1.5).

One tensor of each is in memory at a time beside the mean. All must be of one shape; what they have beside their
weights is the first's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from isoflop import config as configuration
from isoflop.inference.load import load_model
from isoflop.model.export import export_ours, refuse_existing
from isoflop.model.source import Held
from isoflop.tokens.chat_template import FILE, template_beside
from isoflop.tokens.manifest import TOKENIZER
from isoflop.training.weights import open_weights


def average(models: Sequence[Path], out: Path) -> Path:
    """Write the mean of these models as the folder ``out``, whole or not at all; returns it.

    Raises ValueError where there are less than two, or where their shapes or vocabularies differ.
    """
    if len(models) < 2:
        raise ValueError(f"an average needs at least two models, not {len(models)}")
    refuse_existing(out)
    mean, tokenizer = load_model(models[0])
    for number, path in enumerate(models[1:], 2):
        source = open_weights(path)
        if found := configuration.difference(mean.shape, replace(source.shape, context=mean.shape.context)):
            raise ValueError(f"{path} is of another shape than {models[0]} ({found}), so they have no average")
        for name, parameter in mean.named_parameters():
            parameter.data += (source.rows(name).float() - parameter.data) / number
    beside = {TOKENIZER: tokenizer.to_bytes()}
    if (template := template_beside(models[0])) is not None:
        beside[FILE] = template.encode()
    export_ours(Held(mean), out, beside=beside)
    return out
