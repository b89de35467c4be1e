"""Rejection sampling: K answers to every prompt, judged; the best to learn from, best over worst to prefer.

Llama 3 draws 10 to 30 answers from the best model so far and lets the reward model choose (arXiv 2407.21783, section
4.2.2); a verifier chooses where answers can be checked, or both. A prompt is read once for all its answers
(``inference.engine``), in as many rows as memory has room for. A problem that nobody solved may be asked again with one
of the wrong answers and what is wrong with it (``problems.feedback``): a right answer then is a conversation in which a
model corrects itself, whose wrong answer is not learnt (Llama 3's execution feedback, section 4.3.1).

A directory: ``sample.toml``, ``chunks/`` while it goes on, then ``samples.jsonl`` (all answers with what was said of
them), ``best.jsonl`` (conversations for fine-tuning), ``preferences.jsonl`` and ``summary.json``. A chunk of prompts is
complete or not there, so a stop costs at most one. What is drawn for a prompt depends on the seed and its words alone,
whatever other prompts there are. Left out: several processes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from isoflop import config as configuration
from isoflop.files import write_json, write_text
from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.load import load_model
from isoflop.inference.memory import row_bytes, rows_that_fit
from isoflop.inference.requests import Completion, Event, Request
from isoflop.inference.sampling import Sampling
from isoflop.interrupt import Interrupted, interruptible
from isoflop.keys import derive_key
from isoflop.posttraining.branches import Tree
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.formats import FIELDS
from isoflop.posttraining.formats.columns import parse
from isoflop.posttraining.formats.read import read_prompts
from isoflop.posttraining.formats.tally import Tally
from isoflop.posttraining.formats.write import write_rows
from isoflop.posttraining.sampled import Sample, Sampled, figures
from isoflop.posttraining.scoring import RewardModel
from isoflop.problems.feedback import LONGEST_ANSWER, feedback
from isoflop.problems.problem import Problem, bounded, from_row, read_rows
from isoflop.problems.verdict import Verdict
from isoflop.problems.verify import require_checkable, verify_all
from isoflop.progress import Report, silent
from isoflop.training.hardware import device_for, precision_for

CONFIG = "sample.toml"
CHUNK_SAMPLES = 1024
"""Answers in a chunk, about."""


@dataclass(frozen=True)
class SampleConfig:
    """What is sampled, and what chooses.

    Attributes:
        model: what answers: anything that ``training.weights`` opens, relative to the directory or absolute.
        prompts: files of prompts, in any format that ``posttraining.formats`` knows; answers in them are left out.
        columns: others' names for the fields of prompts' rows, such as "prompt=question".
        problems: files of problems whose answers can be checked (``isoflop problems`` writes them).
        reward: the reward model's directory; none where verifiers alone choose.
        k: answers to a prompt.
        temperatures: what they are drawn at, in turn.
        top_p: only among the likeliest tokens that together have this probability.
        max_tokens: tokens of an answer at most.
        retries: how often a problem is asked again, with what is wrong, as long as no answer is right.
        margin: least difference of two rewards that makes a preference.
        seed: chooses other answers.
        rows: answers written at once at most; fewer where memory has no room.
        precision: compute type of the model; ``auto`` is bf16 where the hardware multiplies it natively.
    """

    model: str
    prompts: tuple[str, ...] = ()
    columns: str = ""
    problems: tuple[str, ...] = ()
    reward: str = ""
    k: int = 10
    temperatures: tuple[float, ...] = (1.0,)
    top_p: float = 1.0
    max_tokens: int = 256
    retries: int = 0
    margin: float = 0.0
    seed: int = 0
    rows: int = 64
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        """Refuse what chooses nothing."""
        if self.k < 1 or self.max_tokens < 1 or self.rows < 1 or not self.temperatures:
            raise ValueError(
                f"k, max_tokens and rows must be at least 1, and there must be a temperature: k = {self.k}, "
                f"max_tokens = {self.max_tokens}, rows = {self.rows}, temperatures = {self.temperatures}"
            )
        if self.retries < 0 or (self.retries and not self.problems):
            raise ValueError(f"retries are of problems, whose answers can be checked, and 0 or more: {self.retries}")
        if not self.prompts and not self.problems:
            raise ValueError("there is nothing to ask: give files of prompts or of problems")
        if self.prompts and not self.reward:
            raise ValueError("nothing can choose among answers to prompts: give a reward model, or problems instead")

    @property
    def draws(self) -> list[Sampling]:
        """How each of the k answers is drawn."""
        return [Sampling(self.temperatures[n % len(self.temperatures)], top_p=self.top_p) for n in range(self.k)]


class Asked(NamedTuple):
    """A prompt, where it was read, its ids, what checks answers to it, and how often it was asked before."""

    place: str
    prompt: tuple[Message, ...]
    ids: tuple[int, ...]
    problem: Problem | None
    again: int = 0


def rejection_sample(config: SampleConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Sample in the directory ``path``, or go on; returns the summary. Ctrl-C stops at once and keeps whole chunks."""
    configuration.record(config, path / CONFIG)
    if (path / "summary.json").exists():
        return dict(json.loads((path / "summary.json").read_text()))
    sampler = Sampler.open(config, path)
    started, size = time.perf_counter(), max(1, CHUNK_SAMPLES // config.k)
    chunks = [sampler.asked[i : i + size] for i in range(0, len(sampler.asked), size)]
    with interruptible() as stopped:
        for number, asked in enumerate(chunks):
            file = path / "chunks" / f"{number:06d}.jsonl"
            if not file.exists():
                done = number * size * config.k
                found = sampler.answers(asked, watch(stopped, report, done, len(sampler.asked) * config.k))
                file.parent.mkdir(exist_ok=True)
                write_text(file, lines(sampled.to_row() for sampled in found))
    seconds = time.perf_counter() - started
    return finish(config, path, len(chunks), {"skipped": dict(+sampler.skipped), "seconds": round(seconds, 1)})


def outlook(config: SampleConfig, path: Path) -> dict[str, Any]:
    """What sampling in the directory ``path`` would ask and keep in memory; writes nothing."""
    sampler = Sampler.open(config, path)
    longest = max(len(one.ids) for one in sampler.asked) + config.max_tokens
    rows = sampler.engine.rows
    return {
        "prompts": len(sampler.asked),
        "answers": len(sampler.asked) * config.k,
        "skipped": dict(+sampler.skipped),
        "prompt_tokens": sum(len(one.ids) for one in sampler.asked),
        "answer_tokens_at_most": len(sampler.asked) * config.k * config.max_tokens,
        "rows": rows,
        "cache_bytes": rows * row_bytes(sampler.engine.decoder, min(longest, sampler.engine.context)),
    }


def watch(stopped: Callable[[], bool], report: Report, done: int, total: int) -> Callable[[Event], None]:
    """What follows a chunk: progress in answers, and a stop as soon as one is wished."""
    count = done

    def follow(event: Event) -> None:
        nonlocal count
        if stopped():
            raise Interrupted(f"stopped after {done:,} of {total:,} answers were kept; the same command goes on")
        if event.finish is not None:
            count = min(total, count + 1)  # what is asked again is not foreseen
            report("sample", count, total)

    return follow


def finish(config: SampleConfig, path: Path, chunks: int, more: dict[str, Any]) -> dict[str, Any]:
    """Write what the chunks come to, and remove them."""
    found = [sampled for number in range(chunks) for sampled in read_chunk(path / "chunks" / f"{number:06d}.jsonl")]
    best = [conversation for sampled in found if (conversation := sampled.best()) is not None]
    preferences = [ranking for sampled in found if (ranking := sampled.preference(config.margin)) is not None]
    write_text(path / "samples.jsonl", lines(sampled.to_row() for sampled in found))
    write_rows(path / "best.jsonl", best)
    write_rows(path / "preferences.jsonl", preferences)
    summary = figures(found) | {"k": config.k, "best": len(best), "preferences": len(preferences)} | more
    write_json(path / "summary.json", summary)
    shutil.rmtree(path / "chunks", ignore_errors=True)
    return summary


def lines(rows: Iterable[dict[str, Any]]) -> str:
    """Objects as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_chunk(file: Path) -> Iterator[Sampled]:
    """The answers of a chunk, or of ``samples.jsonl``."""
    with file.open(encoding="utf-8") as rows:
        for row in rows:
            yield Sampled.from_row(json.loads(row))


class Sampler:
    """A model that answers, what judges it, and what is asked."""

    def __init__(
        self, config: SampleConfig, engine: Engine, chat: Chat, reward: RewardModel | None, asked: Sequence[Asked]
    ) -> None:
        self.config, self.engine, self.chat, self.reward = config, engine, chat, reward
        self.skipped: Counter[str] = Counter()
        self.asked = list(self.answerable(asked))
        if not self.asked:
            raise ValueError(f"none of the {len(asked):,} prompts can be answered: {dict(self.skipped)}")

    @classmethod
    def open(cls, config: SampleConfig, path: Path) -> Sampler:
        """What the directory's config names."""
        prompts, problems = (
            [Path(os.path.normpath(path / n)) for n in names] for names in (config.prompts, config.problems)
        )
        device = device_for(config.device)
        model, tokenizer = load_model(Path(os.path.normpath(path / config.model)))
        reward = RewardModel.load(Path(os.path.normpath(path / config.reward))) if config.reward else None
        chat = Chat(tokenizer)
        tally = Tally()
        # problems first: what stands among both is to be checked
        asked = [*asked_problems(chat, problems), *asked_prompts(chat, prompts, config.columns, tally)]
        decoder = Decoder(model.to(device), dtype=precision_for(config.precision, device))
        longest = max((len(one.ids) for one in asked), default=1) + config.max_tokens
        rows = rows_that_fit(decoder, min(longest, model.shape.context), config.rows)
        if reward is not None:
            reward.to(device)
        sampler = cls(config, Engine(decoder, tokenizer, rows=rows), chat, reward, asked)
        sampler.skipped["rows that ask nothing, or cannot be understood"] += tally.rows - tally.kept
        return sampler

    def answerable(self, asked: Sequence[Asked]) -> Iterator[Asked]:
        """What leaves room for an answer, each question once; the rest is counted."""
        seen = set()
        for one in asked:
            if one.prompt in seen:
                self.skipped["asked before"] += 1
            elif too_long := self.too_long(one):
                self.skipped[too_long] += 1
            else:
                yield one
            seen.add(one.prompt)

    def too_long(self, one: Asked) -> str:
        """What leaves no room for an answer, if anything does."""
        if len(one.ids) + 1 >= self.engine.context:
            return "longer than the model's context"
        if self.reward and self.reward.tree(one.prompt, [""]).reach + self.config.max_tokens > self.reward.context:
            return "longer than the reward model's context with an answer"
        return ""

    def answers(self, asked: Sequence[Asked], follow: Callable[[Event], None]) -> list[Sampled]:
        """K answers to each of these, judged, and to what had to be asked again."""
        found = self.judged(asked, self.drawn(asked, follow))
        every = list(found)
        for _ in range(self.config.retries):
            tried = [self.once_more(one, sampled) for one, sampled in zip(asked, found, strict=True)]
            asked = [one for one in tried if one is not None]
            found = self.judged(asked, self.drawn(asked, follow))
            every += found
        return every

    def once_more(self, one: Asked, sampled: Sampled) -> Asked | None:
        """What is asked where no answer was right: the same, a wrong answer and what is wrong with it."""
        if one.problem is None or sampled.solved:
            return None
        shown = [(text, sample) for sample in sampled.ordered if (text := bounded(sample.text, LONGEST_ANSWER)).strip()]
        if not shown:
            return None
        text, wrong = shown[0]
        said = feedback(Verdict(wrong.verdict or "wrong", None, wrong.why))
        prompt = (*one.prompt, Message("assistant", text, learned=False), Message("user", said))
        again = Asked(one.place, prompt, tuple(self.chat.prompt(prompt)), one.problem, one.again + 1)
        if self.too_long(again):
            self.skipped["no room to be asked once more"] += 1
            return None
        return again

    def drawn(self, asked: Sequence[Asked], follow: Callable[[Event], None]) -> list[Sampled]:
        """K answers to each of these."""
        draws = self.config.draws
        kinds = sorted(set(draws), key=draws.index)
        requests = [self.request(one, kind, draws.count(kind)) for one in asked for kind in kinds]
        completions = iter(self.engine.generate(requests, follow))
        found = []
        for one in asked:
            samples = [sample_of(said, kind.temperature) for kind in kinds for said in next(completions)]
            found.append(Sampled(one.place, one.prompt, tuple(samples), one.again))
        return found

    def request(self, one: Asked, kind: Sampling, samples: int) -> Request:
        """What the engine is asked; its seed is the prompt's own."""
        seed = derive_key(self.config.seed, "prompt", str(kind.temperature), *one.ids)
        return Request(one.ids, samples, self.config.max_tokens, kind, self.chat.stop_ids, seed=seed)

    def judged(self, asked: Sequence[Asked], found: Sequence[Sampled]) -> list[Sampled]:
        """The answers with rewards, and with verdicts where they can be checked."""
        samples = [list(sampled.samples) for sampled in found]
        if self.reward is not None:
            self.rewarded(self.reward, found, samples)
        checked = [(i, n, one.problem) for i, one in enumerate(asked) if one.problem for n in range(len(samples[i]))]
        verdicts = verify_all((problem, samples[i][n].text) for i, n, problem in checked)
        for (i, n, _), verdict in zip(checked, verdicts, strict=True):
            samples[i][n] = replace(samples[i][n], verdict=verdict.status, why=verdict.why)
        return [replace(sampled, samples=tuple(row)) for sampled, row in zip(found, samples, strict=True)]

    def rewarded(self, model: RewardModel, found: Sequence[Sampled], samples: list[list[Sample]]) -> None:
        """Give the answers that may be learnt from their rewards; one that is too long for the model has none.

        What was drawn may be longer when it is encoded again, as text that a tokenizer would have cut otherwise.
        """
        trees, places = [], []
        for number, sampled in enumerate(found):
            tree = model.tree(sampled.prompt, [sample.text for sample in sampled.samples])
            whole = [n for n, sample in enumerate(sampled.samples) if sample.whole]
            fitting = [n for n in whole if len(tree.prompt) + len(tree.responses[n]) <= model.context]
            self.skipped["answers longer than the reward model's context"] += len(whole) - len(fitting)
            if fitting:
                trees.append(Tree(tree.prompt, [tree.responses[n] for n in fitting]))
                places.append((number, fitting))
        for (number, fitting), rewards in zip(places, model.score_trees(trees), strict=True):
            for n, reward in zip(fitting, rewards, strict=True):
                samples[number][n] = replace(samples[number][n], reward=reward)


def sample_of(said: Completion, temperature: float) -> Sample:
    """What the engine wrote, not judged yet."""
    return Sample(said.text, len(said.ids), sum(said.logprobs), temperature, said.finish or "length")


def asked_prompts(chat: Chat, files: Sequence[Path], columns: str, tally: Tally) -> Iterator[Asked]:
    """The prompts of files, in any format, or with columns of others' names."""
    for found in read_prompts(files, tally, columns=parse(columns, FIELDS)) if files else ():
        yield Asked(found.place, found.value, tuple(chat.prompt(found.value)), None)


def asked_problems(chat: Chat, files: Sequence[Path]) -> Iterator[Asked]:
    """The problems of files; a ValueError where one of them has nothing that checks it."""
    rows = [(where, from_row(row, where)) for file in files for where, row in read_rows(file)]
    require_checkable(problem for _, problem in rows)
    for where, problem in rows:
        prompt = (Message("user", problem.prompt),)
        yield Asked(where, prompt, tuple(chat.prompt(prompt)), problem)
