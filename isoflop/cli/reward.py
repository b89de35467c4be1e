"""``isoflop reward``: train a reward model on preferences."""

from __future__ import annotations

from isoflop.cli import stage_command

DESCRIPTION = """Trains a model to score answers as people prefer them: on pairs, or rankings of more, best first. It is
measured on rankings kept back. The directory is then a reward model for isoflop sample, and isoflop export writes it as
a LlamaForSequenceClassification. The same command goes on after a stop.

examples:
  isoflop reward --model runs/mine --data preferences.jsonl --out stages/reward --rate 1e-4
  isoflop reward reward.toml --out stages/reward             a config file: the same names
  isoflop reward --model runs/mine --data hh.jsonl.gz --out stages/reward --dry-run
"""


def main(arguments: list[str]) -> None:
    """Run the command."""
    from isoflop.posttraining.settings import RewardConfig

    stage_command.main(RewardConfig, arguments, "isoflop reward", DESCRIPTION)
