"""The needle test measures recall from anywhere in the context, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isoflop.corpus import Document
from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.packing import PADDING
from isoflop.tokens.recall import NAMES, WORDS, fact, question, recall_documents
from isoflop.training.needle import Needles, distinct_words, solved, wilson
from isoflop.training.ranks import Ranks

ALONE = Ranks()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Copier:
    """Predicts what followed the latest earlier occurrence of the last ``match`` tokens within ``reach`` of them."""

    def __init__(self, vocab: int, reach: int, match: int = 4) -> None:
        self.vocab, self.reach, self.match = vocab, reach, match
        self.head = torch.eye(vocab)
        self.embedding = self.head
        self.shape = SimpleNamespace(logit_cap=0.0)

    def hidden(self, tokens: Tensor) -> Tensor:
        out = torch.zeros(*tokens.shape, self.vocab)
        for row, ids in enumerate(tokens.tolist()):
            for end in range(len(ids) - 8, len(ids)):
                wanted = ids[end - self.match + 1 : end + 1]
                for at in range(end - 1, max(self.match - 1, end - self.reach), -1):
                    if ids[at - self.match + 1 : at + 1] == wanted:
                        out[row, end, ids[at + 1]] = 20.0
                        break
        return out


def score(model: Any, tests: Needles) -> dict[float, tuple[float, float]]:
    found = tests.measure(model, ALONE, 512)
    return {s.depth: (s.chosen / s.trials, s.exact / s.trials) for s in found}


@pytest.fixture(scope="module")
def dataset(tiny_tokens: Path) -> TokenDataset:
    return TokenDataset.open(tiny_tokens)


def test_model_that_looks_up_solves_every_depth_within_its_reach(dataset: TokenDataset) -> None:
    tests = Needles.of(dataset, 256, 6)
    assert score(Copier(300, 256), tests) == dict.fromkeys((0.0, 0.25, 0.5, 0.75, 1.0), (1.0, 1.0))
    near = score(Copier(300, 100), tests)
    assert near[1.0] == (1.0, 1.0)
    for depth in (0.0, 0.25):
        assert near[depth][0] < 0.7
        assert near[depth][1] == 0.0


def test_untrained_model_chooses_by_chance(dataset: TokenDataset) -> None:
    tests = Needles.of(dataset, 96, 40)
    model = Llama(Shape(1, 16, 2, 1, 16, 300, context=96)).initialise(3)
    found = tests.measure(model, ALONE, 1024)
    low, high = wilson(sum(s.chosen for s in found), sum(s.trials for s in found), z=3.5)
    assert low < 1 / len(tests.words) < high
    assert solved(found) < 0.5


def test_row_is_text_with_the_fact_at_its_depth_and_the_question_at_its_end(dataset: TokenDataset) -> None:
    tests, length = Needles.of(dataset, 200, 3, (0.0, 0.5, 1.0)), 200
    assert tests.tokens.shape == (9, length)
    tokenizer = dataset.tokenizer
    for row, targets in zip(tests.tokens.tolist(), tests.answers.tolist(), strict=True):
        answer = [t for t in targets if t != PADDING]
        whole = [*row[: length - len(answer) + 1], *answer]
        assert whole[:length] == row
        text = tokenizer.decode(whole)
        name = next(name for name in NAMES if text.count(question(name)) == 2)
        word = text[text.rindex(question(name)) + len(question(name)) :].strip()
        assert word in WORDS
        assert text.count(fact(name, word)) == 1
        assert row[0] == tokenizer.bos
        assert tokenizer.bos not in row[1:]
        assert tokenizer.eos not in row
    places = [tokenizer.decode(row).index(" password") for row in tests.tokens[::3].tolist()]
    total = len(tokenizer.decode(tests.tokens[0].tolist()))
    assert places[0] < 30
    assert places[1] == pytest.approx(0.45 * total, rel=0.25)
    assert places[2] > 0.7 * total


def test_ranks_together_find_what_one_finds(dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = Needles.of(dataset, 64, 5)
    model = Llama(Shape(1, 16, 2, 1, 16, 300, context=64)).initialise(0)
    parts: list[Tensor] = []
    monkeypatch.setattr(Ranks, "add", lambda self, found: parts.append(found.clone()))
    whole = tests.measure(model, ALONE, 192)
    for rank in range(3):
        tests.measure(model, Ranks(rank, 3), 192)
    assert torch.equal(sum(parts[1:], torch.zeros(())), parts[0])
    assert sum(s.trials for s in whole) == 25


def test_same_tests_for_the_same_tokens_and_others_for_another_seed(dataset: TokenDataset) -> None:
    assert torch.equal(Needles.of(dataset, 128, 2).tokens, Needles.of(dataset, 128, 2).tokens)
    assert not torch.equal(Needles.of(dataset, 128, 2).tokens, Needles.of(dataset, 128, 2, seed=1).tokens)


def test_what_cannot_be_tested_is_said(dataset: TokenDataset) -> None:
    with pytest.raises(ValueError, match="needs a context of more than"):
        Needles.of(dataset, 16, 1)
    with pytest.raises(ValueError, match="needs more held-out text"):
        Needles.of(dataset, 10**6, 1)
    one = SimpleNamespace(encode=lambda text: list(text.encode()))
    with pytest.raises(ValueError, match="tells only 1 of the needle test's words apart"):
        distinct_words(one)  # type: ignore[arg-type]


def test_wilson_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for share in (0.05, 0.5, 0.95):
        hits = rng.binomial(40, share, 4000)
        covered = np.mean([low <= share <= high for low, high in (wilson(int(h), 40) for h in hits)])
        assert covered == pytest.approx(0.95, abs=0.03)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1


def test_facts_of_a_recall_document_come_up_twice_the_second_time_later() -> None:
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randrange(3, 9))) for _ in range(300)]
    text = ". ".join(" ".join(rng.choices(words, k=8)) for _ in range(200))
    made = list(recall_documents([Document(text, "a:1")], 2000, 5))
    assert len(made) > 3
    for document in made:
        facts = [piece.split(".")[0] for piece in document.text.split(" The password of ")[1:]]
        assert len(facts) == 10
        assert all(facts.count(said) == 2 for said in facts)
        plain = document.text
        for said in facts:
            plain = plain.replace(f" The password of {said}.", "", 1)
        assert "".join(plain.split()) in "".join(text.split())
    assert made == list(recall_documents([Document(text, "a:1")], 2000, 5))
    assert made != list(recall_documents([Document(text, "a:1")], 2000, 5, seed=1))
    assert list(recall_documents([Document("too short.", "b:1")], 2000, 5)) == []
    with pytest.raises(ValueError, match="at least one character and one fact"):
        next(recall_documents([], 10, 0))
