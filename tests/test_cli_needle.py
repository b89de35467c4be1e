"""``isoflop needle``: a table of a run's recall, and documents that teach it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isoflop.cli import main
from isoflop.corpus import documents
from isoflop.planning.averaging import Averaging
from isoflop.planning.shape import Shape
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    torch.set_num_threads(1)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(str(left.value.code)), out, err

    return call


def test_table_has_a_line_for_every_length_and_depth(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, run: Run
) -> None:
    config = tiny_config(shape=Shape(2, 16, 2, 1, 32, 300, context=128), average=Averaging(3072))
    train(config, tmp_path / "run")
    status, out, _ = run("needle", tmp_path / "run", "--trials", 3)
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:3] == ["length", "depth", "chosen"]
    assert [row[:2] for row in rows[1:6]] == [["128", d] for d in ("0%", "25%", "50%", "75%", "100%")]
    assert "by chance" in out.splitlines()[-1]

    _, out, _ = run("needle", tmp_path / "run", "--lengths", "64,128", "--depths", "0,1", "--trials", 2, "--json")
    last = json.loads(out)
    assert [(s["length"], s["depth"], s["trials"]) for s in last] == [(64, 0, 2), (64, 1, 2), (128, 0, 2), (128, 1, 2)]
    averaged = json.loads(run("needle", tmp_path / "run", "--averaged", "--trials", 2, "--json")[1])
    assert {s["nats"] for s in averaged}.isdisjoint(s["nats"] for s in last)

    for wrong, words in ((("--lengths", "many"), "are not numbers"), (("--depths", "2"), "depths from 0 to 1")):
        status, _, err = run("needle", tmp_path / "run", *wrong)
        assert status == 1
        assert words in err


def test_documents_that_teach_recall_are_a_corpus(tmp_path: Path, run: Run) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=6)) for _ in range(200)]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text(". ".join(" ".join(rng.choices(words, k=9)) for _ in range(300)))
    out = tmp_path / "recall.jsonl.zst"
    assert run("needle", tmp_path / "corpus", "--make", out, "--characters", 1000, "--facts", 4)[0] == 0
    made = list(documents(str(out)))
    assert len(made) > 10
    assert all(document.text.count("The password of") == 8 for document in made)
