"""``isoflop teach``: a student learns from a larger teacher on its own answers."""

from __future__ import annotations

from isoflop.cli import stage_command

DESCRIPTION = """Distils a larger model into a smaller one on policy: before every step the student answers the step's
prompts, the teacher says its distribution at every token of these answers, and the student descends a divergence
there. The teacher is any model with the same tokenizer. The student should be able to answer before (isoflop sft). The
same command goes on after a stop. In a dry run memory and FLOPs are those of the student; the teacher's weights, four
bytes each, and its forward pass come on top.

examples:
  isoflop teach --model stages/sft --teacher stages/large --prompts problems.jsonl --out stages/taught --rate 3e-4
  isoflop teach --model stages/sft --teacher stages/large --prompts p.jsonl --beta 1 --out stages/reverse
  isoflop teach --model stages/sft --teacher stages/large --prompts p.jsonl --data a.jsonl --given 0.5 --out stages/mix
                                                    given answers too, half of whose own likelihood is added
  isoflop teach --out stages/taught                 go on with it
"""


def main(arguments: list[str]) -> None:
    """Run the command."""
    from isoflop.posttraining.settings import TeachConfig

    stage_command.main(TeachConfig, arguments, "isoflop teach", DESCRIPTION)
