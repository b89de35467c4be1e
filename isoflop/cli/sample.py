"""``isoflop sample``: many answers to every prompt, judged, and the best of them kept."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

DESCRIPTION = """Rejection sampling: draws K answers to every prompt, lets a reward model choose, or what checks the
answers to problems, or both, and writes into a directory: best.jsonl to fine-tune on, preferences.jsonl for DPO and
reward models, samples.jsonl with everything, and a summary. The same command goes on after a stop.

examples:
  isoflop sample stages/sft --prompts prompts.jsonl --reward stages/reward --k 10 --out round1/samples
  isoflop sample stages/sft --problems problems.jsonl --k 16 --temperatures 0.6 1.0 --out round1/samples
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop sample``.

    Attributes:
        model: What answers: a run, a stage, an imported model, a Hugging Face folder.
        out: Directory of the samples.
        prompts: Files of prompts, in any format of conversations; answers in them are left out.
        columns: Others' names for the fields of prompts' rows, such as prompt=question.
        problems: Files of problems that can be checked, as isoflop problems writes them.
        reward: The reward model's directory.
        k: Answers to each prompt.
        temperatures: What they are drawn at, in turn.
        top_p: Only among the likeliest tokens that together have this probability.
        max_tokens: Tokens of an answer at most.
        retries: How often a problem is asked again, with what is wrong, as long as no answer is right.
        margin: Least difference of two rewards that makes a preference.
        seed: Chooses other answers.
        rows: Answers written at once at most; fewer where memory has no room.
        dry_run: Read the prompts, say what would be asked, and do nothing.
        json: Print the summary as JSON.
    """

    model: tyro.conf.Positional[Path]
    out: Path
    prompts: tuple[Path, ...] = ()
    columns: str = ""
    problems: tuple[Path, ...] = ()
    reward: Path | None = None
    k: int = 10
    temperatures: tuple[float, ...] = (1.0,)
    top_p: float = 1.0
    max_tokens: int = 256
    retries: int = 0
    margin: float = 0.0
    seed: int = 0
    rows: int = 64
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop sample", description=DESCRIPTION)
    from isoflop.posttraining.rejection import SampleConfig, outlook, rejection_sample
    from isoflop.progress import console

    def inside(path: Path) -> str:
        return os.path.relpath(path, a.out)

    config = SampleConfig(
        model=inside(a.model),
        prompts=tuple(map(inside, a.prompts)),
        columns=a.columns,
        problems=tuple(map(inside, a.problems)),
        reward=inside(a.reward) if a.reward else "",
        k=a.k,
        temperatures=a.temperatures,
        top_p=a.top_p,
        max_tokens=a.max_tokens,
        retries=a.retries,
        margin=a.margin,
        seed=a.seed,
        rows=a.rows,
    )
    if a.dry_run:
        seen = outlook(config, a.out)
        print(json.dumps(seen) if a.json else foreseen(seen))
        return
    with console() as report:
        summary = rejection_sample(config, a.out, report)
    print(json.dumps(summary) if a.json else told(summary, a.out))


def foreseen(seen: dict[str, Any]) -> str:
    """What would be asked, in words."""
    skipped = "".join(f"; left out, {reason}: {count:,}" for reason, count in seen["skipped"].items())
    return (
        f"{seen['answers']:,} answers to {seen['prompts']:,} prompts{skipped}\n"
        f"{seen['prompt_tokens']:,} tokens to read, at most {seen['answer_tokens_at_most']:,} to write, "
        f"{seen['rows']} answers at once with a cache of {seen['cache_bytes'] / 1e6:.0f} MB"
    )


def told(summary: dict[str, Any], out: Path) -> str:
    """The summary in words."""
    k = summary["k"]
    found = [
        f"{summary['samples']:,} answers to {summary['prompts']:,} prompts in {summary['seconds']:.0f} s, "
        f"{summary['mean_tokens']:.0f} tokens each, {summary['finish']['length']:,} of them cut off"
    ]
    shown = {
        "reward": "mean reward",
        "best_reward": f"best reward of {k}",
        "pass_1": "right",
        "pass_k": f"prompts with a right one among {k}",
        "mixed": "prompts with right and wrong ones",
        "corrected": f"right at last of {summary.get('asked_again', 0):,} asked again",
    }
    for name, words in shown.items():
        if name in summary:
            error = f" ± {summary[f'{name}_error']:.3f} (95%)" if f"{name}_error" in summary else ""
            found.append(f"{words}: {summary[name]:.3f}{error}")
    if cut := summary["finish"]["length"]:
        found.append(f"{cut:,} answers had no end within the limit and are not learnt from; raise --max-tokens")
    found += [f"left out, {reason}: {count:,}" for reason, count in summary["skipped"].items()]
    found.append(f"{summary['best']:,} conversations and {summary['preferences']:,} preferences: {out}")
    return "\n".join(found)
