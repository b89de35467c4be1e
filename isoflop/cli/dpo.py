"""``isoflop dpo``: a model learns which of two responses is better."""

from __future__ import annotations

from isoflop.cli import stage_command

DESCRIPTION = """Trains a model on preferences by direct preference optimisation, Llama 3's way by default, and writes
it into a directory that every command takes as a model. What the model that it begins with says of all responses is
asked first and kept. The same command goes on after a stop.

examples:
  isoflop dpo --model stages/sft --data preferences.jsonl --out stages/dpo --rate 1e-4
  isoflop dpo --model stages/sft --data preferences.jsonl --out stages/dpo --lora.rank 16 --rate 1e-3
  isoflop dpo --model stages/sft --data p.jsonl --out stages/plain --loss.nll 0 --loss.end-in-dpo    the plain loss
  isoflop dpo dpo.toml --out stages/dpo             a config file: the same names, paths relative to the directory
  isoflop dpo --out stages/dpo                      go on with it
"""


def main(arguments: list[str]) -> None:
    """Run the command."""
    from isoflop.posttraining.settings import DPOConfig

    stage_command.main(DPOConfig, arguments, "isoflop dpo", DESCRIPTION)
