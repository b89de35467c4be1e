"""What fine-tuning learns from: no two alike, the better one kept, manners limited, kinds in their shares."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.choosing import Choosing, chosen
from isoflop.posttraining.conversation import Conversation, Message
from isoflop.posttraining.sampled import Sample, Sampled
from isoflop.tokens.tokenizer import Tokenizer

KINDS = {f"{kind} {n}?": kind for kind in ("add", "sort") for n in range(6)}


@pytest.fixture(scope="module")
def reader(tiny_tokens: Path) -> tuple[Llama, Chat]:
    tokenizer = Tokenizer.load(tiny_tokens)
    return Llama(Shape(1, 32, 2, 2, 64, tokenizer.vocab_size, context=128)).initialise(0), Chat(tokenizer)


def answered(prompt: str, text: str, reward: float = 0.0, right: bool = True) -> Sampled:
    """A problem with one answer, and a wrong one."""
    good = Sample(text, 3, -1.0, 1.0, "stop", reward, "right" if right else "wrong")
    return Sampled(prompt, (Message("user", prompt),), (good, Sample("no", 2, -1.0, 1.0, "stop", -1.0, "wrong")))


ALL = [answered(prompt, f"law {n}", reward=n / 10) for n, prompt in enumerate(KINDS)]


def texts(conversations: list[Conversation]) -> list[str]:
    return [one.messages[-1].content for one in conversations]


def test_without_rules_every_best_answer_is_learnt_from(reader: tuple[Llama, Chat]) -> None:
    found, account = chosen(*reader, ALL, KINDS, Choosing(alike=1, manners=1))
    assert texts(found) == [one.ordered[0].text for one in ALL]
    assert account["kept"] == account["best"] == 12


def test_problems_without_a_right_answer_teach_nothing(reader: tuple[Llama, Chat]) -> None:
    found, account = chosen(*reader, [answered("add 1?", "law", right=False), *ALL[:1]], KINDS, Choosing(alike=1))
    assert account["best"] == len(found) == 1


def test_of_two_that_are_alike_the_one_with_the_higher_reward_stays(reader: tuple[Llama, Chat]) -> None:
    twins = [answered("add 0?", "law of scale", 0.1), answered("add 0?", "law of scale", 0.9)]
    found, account = chosen(*reader, [*twins, answered("sort 5?", "curve", 0.5)], KINDS, Choosing(alike=0.99999))
    assert account["alike"] == 1
    assert sorted(texts(found)) == ["curve", "law of scale"]


def test_overused_manners_are_limited_and_counted(reader: tuple[Llama, Chat]) -> None:
    sorry = [answered(prompt, f"I'm sorry, {n}") for n, prompt in enumerate(KINDS)]
    found, account = chosen(*reader, [*sorry, *ALL], KINDS, Choosing(alike=1, manners=0.05))
    assert sum(text.startswith("I'm sorry") for text in texts(found)) == 1
    assert account["manners"]["apology"] == 11


def test_kinds_come_in_their_shares_by_repetition_and_omission(reader: tuple[Llama, Chat]) -> None:
    some = [*ALL[:2], *ALL[6:]]  # two sums, six sorted lists
    rule = Choosing(alike=1, shares={"add": 3, "sort": 1, "order": 1})
    found, _ = chosen(*reader, some, KINDS, rule)
    counts = Counter(KINDS[one.messages[0].content] for one in found)
    assert counts == {"add": 6, "sort": 2}
    assert len({one.messages[0].content for one in found if one.messages[0].content.startswith("add")}) == 2


def test_nothing_to_choose_from_is_nothing_chosen(reader: tuple[Llama, Chat]) -> None:
    assert chosen(*reader, [], KINDS, Choosing())[0] == []


def test_rules_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="alike is a cosine"):
        Choosing(alike=0)
