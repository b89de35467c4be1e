"""``isoflop sft``: fine-tune a model on conversations."""

from __future__ import annotations

from isoflop.cli import stage_command

DESCRIPTION = """Fine-tunes a model on what assistants say in conversations, and writes it into a directory that every
command takes as a model. The same command goes on after a stop.

examples:
  isoflop sft --model runs/mine --data chats.jsonl --out stages/sft --rate 3e-4 --epochs 2
  isoflop sft sft.toml --out stages/sft             a config file: the same names, paths relative to the directory
  isoflop sft --out stages/sft                      go on with it
  isoflop sft sft.toml --out stages/sft --dry-run   what it would train on, and what that costs
"""


def main(arguments: list[str]) -> None:
    """Run the command."""
    from isoflop.posttraining.settings import SFTConfig

    stage_command.main(SFTConfig, arguments, "isoflop sft", DESCRIPTION)
