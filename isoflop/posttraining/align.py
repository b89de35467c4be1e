"""The rounds of post-training: sample, model rewards, reject, fine-tune, prefer, average, measure, choose; again.

Every round the best model so far answers new problems; verifiers' verdicts become preferences, from which a reward
model learns; that and the verifiers choose among answers to further problems; the *pre-trained* model is fine-tuned on
the demonstrations and all answers chosen so far, then on this round's preferences by DPO, in a few variants whose
weights are averaged (Llama 3, arXiv 2407.21783, section 4.1). Which of these is the next model is decided on
development problems; what is reported is of test problems that decided nothing.

A directory:

    align.toml            the config as resolved
    base/                 the model that was pre-trained for it, if none was given
    problems/             what is asked, by purpose
    start/                fine-tuning on the demonstrations alone
    round-1/ …            collect/ reward/ reject/ sft/ dpo-1/ … average/, their evaluation.json, and choice.json
    summary.json

Every step leaves files and is skipped once they are there, so the same command goes on wherever it was stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from isoflop import config as configuration
from isoflop.files import locked, write_json
from isoflop.inference.load import load_model
from isoflop.keys import derive_key
from isoflop.posttraining.average import average
from isoflop.posttraining.base import Base, pretrain
from isoflop.posttraining.candidates import compare, judge
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.choosing import Choosing, chosen
from isoflop.posttraining.formats.write import write_rows
from isoflop.posttraining.launch import perform_here
from isoflop.posttraining.pools import Pool, drawn
from isoflop.posttraining.rejection import SampleConfig, read_chunk, rejection_sample
from isoflop.posttraining.sampled import Sampled
from isoflop.posttraining.settings import DPOConfig, RewardConfig, SFTConfig, StageConfig
from isoflop.problems.problem import Problem, from_row, read_rows, write_problems
from isoflop.progress import Report, labelled, silent

Config = TypeVar("Config", bound=StageConfig)
CONFIG = "align.toml"
GIVEN = {"model": "", "data": ("",)}
"""What a stage's config has that the rounds fill in."""


@dataclass(frozen=True)
class AlignConfig:
    """What is aligned, on what, and how each step of a round is done.

    Attributes:
        pools: the problems that it is about.
        model: what to align, relative to the directory or absolute; empty where ``base`` is to be trained first.
        base: a model to pre-train.
        demonstrations: problems whose worked solutions the first fine-tuning learns from.
        conversations: files of conversations that every fine-tuning learns from too.
        preferences: files of people's preferences that every reward model and every DPO learns from too.
        asked: files of prompts that nothing but the reward model can judge answers to; asked every round.
        rounds: how often all of it is done.
        prompts: new problems a round that preferences are collected on, and as many that answers are chosen for.
        k: answers to each.
        choosing: which of the best answers fine-tuning learns from.
        retries: how often a problem that no answer solves is asked again with what is wrong, when answers are chosen.
        temperatures: at which they are drawn, round by round; the last goes on.
        max_tokens: tokens of an answer at most.
        sft: settings of fine-tuning (``posttraining.settings.SFTConfig``) but for its model and data.
        reward: those of the reward model.
        dpo: those of DPO, one table for each variant; two or more are averaged.
        development: held-out problems on which a round's model is chosen.
        test: others, on which all are measured.
        ablate: fine-tune once more a round on answers that were drawn at random instead of chosen.
        processes: processes of a stage; 0 for one a processor.
        seed: chooses problems, answers and orders.
    """

    pools: tuple[Pool, ...]
    model: str = ""
    base: Base | None = None
    demonstrations: int = 256
    conversations: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    rounds: int = 3
    prompts: int = 512
    k: int = 8
    retries: int = 0
    temperatures: tuple[float, ...] = (1.0, 0.8, 0.6)
    max_tokens: int = 96
    choosing: Choosing = field(default_factory=Choosing)
    sft: dict[str, Any] = field(default_factory=dict)
    reward: dict[str, Any] = field(default_factory=dict)
    dpo: tuple[dict[str, Any], ...] = ({"seed": 1}, {"seed": 2})
    development: int = 300
    test: int = 1000
    ablate: bool = True
    processes: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot go round, before anything is trained."""
        if bool(self.model) == (self.base is not None):
            raise ValueError("give either a model to align, or a base to pre-train")
        if not self.pools or not self.dpo or not self.temperatures:
            raise ValueError("rounds need problems (pools), at least one variant of dpo, and a temperature")
        least = {"rounds": self.rounds, "prompts": self.prompts, "k": self.k - 1, "max_tokens": self.max_tokens}
        least |= {"demonstrations": self.demonstrations, "development": self.development, "test": self.test}
        if low := [name for name, value in least.items() if value < 1]:
            raise ValueError(f"{' and '.join(low)} must be larger: a round needs problems, and two answers to each")
        stage_config(SFTConfig, self.sft, "sft", **GIVEN)
        stage_config(RewardConfig, self.reward, "reward", **GIVEN)
        for number, settings in enumerate(self.dpo, 1):
            stage_config(DPOConfig, settings, f"dpo[{number}]", **GIVEN)

    def temperature(self, number: int) -> float:
        """That of a round, from 1."""
        return self.temperatures[min(number, len(self.temperatures)) - 1]


def stage_config(kind: type[Config], settings: dict[str, Any], where: str, **given: Any) -> Config:
    """A stage's config of its settings and what is given; a ValueError names the key at fault."""
    if mine := settings.keys() & given.keys():
        raise ValueError(f"{where}.{min(mine)} is filled in by the rounds; leave it out")
    return configuration.from_dict(kind, {**settings, **given}, where)


def align(config: AlignConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Go through all rounds in the directory ``path``, or go on; returns the summary.

    Raises Interrupted after a Ctrl-C or SIGTERM, with what was done kept; ValueError where the directory was started
    with another config.
    """
    path.mkdir(parents=True, exist_ok=True)
    with locked(path / ".lock"):
        configuration.record(config, path / CONFIG)
        write_all(config, path / "problems")
        rounds = Rounds(config, path, report)
        policy = rounds.start()
        for number in range(1, config.rounds + 1):
            policy = rounds.go(number, policy)
        summary = {"rounds": config.rounds, "model": str(policy.relative_to(path)), **rounds.told}
        write_json(path / "summary.json", summary)
    return summary


def done(path: Path) -> list[str]:
    """Names of the rounds that have ended in the directory, the start first."""
    ended = [file.parent.name for file in path.glob("*/choice.json")]
    return sorted(ended, key=lambda name: (name != "start", len(name), name))


def write_all(config: AlignConfig, folder: Path) -> None:
    """Write what is asked for every purpose; no problem serves two, and those to measure on are of the other side."""
    purposes = {"demonstrations": config.demonstrations}
    for number in range(1, config.rounds + 1):
        purposes |= {f"collect-{number}": config.prompts, f"reject-{number}": config.prompts}
    measured = {"development": config.development, "test": config.test}
    for part, wanted in (("training", purposes), ("held-out", measured)):
        problems = drawn(config.pools, sum(wanted.values()), config.seed, part)  # type: ignore[arg-type]
        share, start = len(problems) / sum(wanted.values()), 0.0
        for name, count in wanted.items():
            file, end = folder / f"{name}.jsonl", start + count * share
            if not file.exists():
                folder.mkdir(parents=True, exist_ok=True)
                write_problems(file, problems[round(start) : round(end)])
            start = end


class Rounds:
    """The steps, each of which leaves files in its place and is skipped once they are there."""

    def __init__(self, config: AlignConfig, path: Path, report: Report) -> None:
        self.config, self.path, self.report = config, path, report
        self.told: dict[str, Any] = {"stages": [], "comparisons": []}
        self.measured = {name: self.problems(name) for name in ("development", "test")}
        self.base = (
            pretrain(config.base, config.pools, config.seed, path / "base", report)
            if config.base
            else (Path(os.path.normpath(path / config.model)))
        )

    def problems(self, name: str) -> list[Problem]:
        """Those of a purpose."""
        return [from_row(row, where) for where, row in read_rows(self.path / "problems" / f"{name}.jsonl")]

    def stage(self, kind: type[Config], settings: dict[str, Any], out: Path, model: Path, data: Sequence[Path]) -> Path:
        """Do a stage that begins with ``model``; returns its directory, which is the model that it made."""
        names = [os.path.relpath(file, out) for file in data]
        config = stage_config(kind, settings, kind.kind, model=os.path.relpath(model, out), data=names)
        perform_here(config, out, self.labelled(out), self.config.processes or None)
        return out

    def labelled(self, out: Path) -> Report:
        """Progress that says of which round it is."""
        return labelled(self.report, str(out.relative_to(self.path)))

    @property
    def taught(self) -> list[Path]:
        """What every fine-tuning learns from."""
        return [self.path / "problems" / "demonstrations.jsonl", *self.files(self.config.conversations)]

    def files(self, names: Sequence[str]) -> list[Path]:
        """Files of the config, whose names are relative to the directory or absolute."""
        return [Path(os.path.normpath(self.path / name)) for name in names]

    def start(self) -> Path:
        """Fine-tuning on the demonstrations alone: the first model that answers."""
        out = self.path / "start"
        policy = self.stage(SFTConfig, self.config.sft, out / "sft", self.base, self.taught)
        self.choose(0, out, {"sft": policy}, policy)
        return policy

    def go(self, number: int, policy: Path) -> Path:
        """One round, in which ``policy`` answers; returns the model that is chosen at its end."""
        out, config = self.path / f"round-{number}", self.config
        theirs = self.files(config.preferences)
        collected = self.sample(number, out / "collect", policy)
        reward = self.stage(RewardConfig, config.reward, out / "reward", self.base, self.preferred(number) + theirs)
        self.sample(number, out / "reject", policy, reward)
        data = [*self.taught, self.learnt_from(number)]
        candidates = {"sft": self.stage(SFTConfig, config.sft, out / "sft", self.base, data)}
        if config.ablate:
            data = [*self.taught, *(self.at_random(n) for n in range(1, number + 1))]
            candidates["sft-random"] = self.stage(SFTConfig, config.sft, out / "sft-random", self.base, data)
        fresh = [collected / "preferences.jsonl", out / "reject" / "preferences.jsonl", *theirs]
        for variant, settings in enumerate(config.dpo, 1):
            name = f"dpo-{variant}"
            candidates[name] = self.stage(DPOConfig, settings, out / name, candidates["sft"], fresh)
        if len(config.dpo) > 1:
            candidates["average"] = self.averaged(out / "average", list(candidates.values())[-len(config.dpo) :])
        return self.choose(number, out, candidates, policy)

    def sample(self, number: int, out: Path, policy: Path, reward: Path | None = None) -> Path:
        """Let ``policy`` answer a round's problems, to be judged by verifiers and, if given, the reward model."""
        config = SampleConfig(
            model=os.path.relpath(policy, out),
            problems=(os.path.relpath(self.path / "problems" / f"{out.name}-{number}.jsonl", out),),
            prompts=tuple(os.path.relpath(file, out) for file in self.files(self.config.asked)) if reward else (),
            reward=os.path.relpath(reward, out) if reward else "",
            k=self.config.k,
            retries=self.config.retries if reward else 0,
            temperatures=(self.config.temperature(number),),
            max_tokens=self.config.max_tokens,
            seed=derive_key(self.config.seed, out.name, number) % 2**31,
        )
        found = rejection_sample(config, out, self.labelled(out))
        if not found["preferences"]:
            raise ValueError(
                f"in {out} no problem has both a right and a wrong answer, so there is nothing to prefer: "
                f"{found['pass_1']:.1%} of answers are right; give pools of another level, more demonstrations, more "
                f"training to the base, or a higher k"
            )
        return out

    def preferred(self, number: int) -> list[Path]:
        """The preferences of all rounds up to this one that a reward model may learn from before it is asked."""
        found = [self.path / f"round-{n}" / "collect" / "preferences.jsonl" for n in range(1, number + 1)]
        return found + [self.path / f"round-{n}" / "reject" / "preferences.jsonl" for n in range(1, number)]

    def learnt_from(self, number: int) -> Path:
        """The best answers of all rounds up to this one, chosen once more together."""
        file = self.path / f"round-{number}" / "chosen.jsonl"
        if not file.exists():
            every = range(1, number + 1)
            found = [one for n in every for one in read_chunk(self.path / f"round-{n}" / "reject" / "samples.jsonl")]
            kinds = {problem.prompt: problem.kind for n in every for problem in self.problems(f"reject-{n}")}
            model, tokenizer = load_model(self.base)
            conversations, account = chosen(model, Chat(tokenizer), found, kinds, self.config.choosing)
            write_json(file.with_suffix(".account.json"), account)
            write_rows(file, conversations)
        return file

    def at_random(self, number: int) -> Path:
        """A round's answers drawn at random, one a prompt for which there is a chosen one; as conversations."""
        folder = self.path / f"round-{number}" / "reject"
        file = folder / "random.jsonl"
        if not file.exists():
            found = [s for s in read_chunk(folder / "samples.jsonl") if not s.again and s.best() is not None]
            write_rows(file, [c for sampled in found if (c := sampled.any_answer(self.config.seed)) is not None])
        return file

    def averaged(self, out: Path, variants: Sequence[Path]) -> Path:
        """The mean of the variants."""
        return out if out.exists() else average(variants, out)

    def choose(self, number: int, out: Path, candidates: dict[str, Path], before: Path) -> Path:
        """Measure the round's candidates and the model before it; returns the best on the development problems."""
        everyone = candidates | ({"before": before} if number else {})
        found = {
            name: judge(
                path, self.measured, self.config.max_tokens, out / "evaluation" / f"{name}.json", self.labelled(out)
            )
            for name, path in everyone.items()
        }
        best = max(found, key=lambda name: found[name].accuracy("development"))
        model = everyone[best]
        comparisons = compare(found, best)
        told = {
            "round": number,
            "chosen": best,
            "model": str(model.relative_to(self.path)),
            **self.figures(out, number),
        }
        told["candidates"] = {name: candidate.to_json() for name, candidate in found.items()}
        write_json(out / "choice.json", told | {"comparisons": comparisons})
        self.told["stages"].append(told)
        self.told["comparisons"] += [{"round": number, **line} for line in comparisons]
        return model

    def figures(self, out: Path, number: int) -> dict[str, Any]:
        """What else a round's steps say of themselves."""
        found: dict[str, Any] = {}
        for name in ("collect", "reject", "reward", *(f"dpo-{n}" for n in range(1, len(self.config.dpo) + 1))):
            if (file := out / name / "summary.json").exists():
                found[name] = json.loads(file.read_text())
        if (account := out / "chosen.account.json").exists():
            found["learnt_from"] = json.loads(account.read_text())
        if (samples := out / "reject" / "samples.jsonl").exists():
            found["reject"] |= best_of_k(list(read_chunk(samples)))
        return found


def best_of_k(found: Sequence[Sampled]) -> dict[str, float]:
    """How often the answer with the highest reward is right, which a verifier had no part in, of all problems."""
    found = [s for s in found if not s.again and any(sample.verdict is not None for sample in s.samples)]
    rewarded = [[sample for sample in sampled.samples if sample.reward is not None] for sampled in found]
    best = [max(own, key=lambda sample: sample.reward or 0.0).right for own in rewarded if own]
    return {"best_by_reward": sum(best) / max(1, len(found))}
