"""The adapter gives the harness what its own backend gives it, and says what is missing without the harness."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from isoflop.evaluation.likelihood import Scorer
from isoflop.inference.decoder import Decoder
from isoflop.model.export import export_hub
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.tokens import train_tokenizer
from isoflop.tokens.hub import hub_files

PAIRS = [
    ("the law", " of the land"), ("the law ", "of the land"), ("the law", " is a law"), ("", "naïve 日本語"),
    ("the " * 90, "law of the land"), ("a", " 🙂\n"),
]  # fmt: skip


def test_without_the_harness_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "isoflop.evaluation.harness", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'isoflop\[eval\]'"):
        __import__("isoflop.evaluation.harness")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    instance = pytest.importorskip("lm_eval.api.instance")
    from lm_eval.models.huggingface import HFLM

    from isoflop.evaluation.harness import Harness

    tokenizer = train_tokenizer(["the law of the land is a law – naïve 日本語 🙂"] * 40, 300)
    model = Llama(Shape(2, 32, 4, 2, 64, tokenizer.vocab_size, context=64)).initialise(3)
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_hub(Held(model), folder, dtype=torch.float32, boundaries=(tokenizer.bos, tokenizer.eos),
               beside=hub_files(tokenizer, 64))  # fmt: skip
    theirs = HFLM(
        pretrained=str(folder), device="cpu", dtype="float32", batch_size=2, max_length=64, add_bos_token=True
    )
    return Harness(Scorer(Decoder(model), tokenizer)), theirs, instance.Instance


def test_scores_are_those_of_the_harness(both: tuple[Any, Any, Any]) -> None:
    ours, theirs, instance = both
    requests = [instance("loglikelihood", {}, pair, number) for number, pair in enumerate(PAIRS)]
    found, wanted = ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True)
    assert [x for x, _ in found] == pytest.approx([x for x, _ in wanted], abs=1e-3)
    assert [x for _, x in found] == [x for _, x in wanted]
    ids = [(pair, *ours._encode_pair(*pair)) for pair in PAIRS if pair[0]]
    assert [x for x, _ in ours._loglikelihood_tokens(ids)] == [
        x for (x, _), p in zip(found, PAIRS, strict=True) if p[0]
    ]


def test_whole_texts_and_generated_ones_are_those_of_the_harness(both: tuple[Any, Any, Any]) -> None:
    ours, theirs, instance = both
    texts = [instance("loglikelihood_rolling", {}, (text,), 0) for text in ("the law", "the land is a law " * 40)]
    wanted = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours.loglikelihood_rolling(texts) == pytest.approx(wanted, abs=5e-3)
    settings = {"until": ["qq"], "max_gen_toks": 6, "do_sample": False}
    asked = [instance("generate_until", {}, (text, settings), 0) for text in ("the law", "land", "the land is " * 30)]
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)
