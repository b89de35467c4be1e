"""Tasks of every form, with figures known beforehand, from rows as they are published and as people spoil them."""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from isoflop import cli
from isoflop.evaluation.continuation import complete, continuation_of
from isoflop.evaluation.exact_match import Answering, Answers, answer
from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.multiple_choice import Item, best, choose, item_of
from isoflop.evaluation.olmes import gathered, request_of
from isoflop.evaluation.perplexity import predict
from isoflop.evaluation.pieces import Score
from isoflop.evaluation.questions import few_shot, last_number, question_of
from isoflop.evaluation.rows import read_rows, some
from isoflop.evaluation.tasks import TASKS, Setting, load
from isoflop.evaluation.watch import loops, repeated, watched
from isoflop.evaluation.win_rate import Rated, win_rate
from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Completion
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.problems.generators import generate
from isoflop.problems.problem import write_problems
from isoflop.tokens import Tokenizer, train_tokenizer
from isoflop.tokens.manifest import TOKENIZER

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the law of the land is a law – naïve 日本語 🙂 0123456789"] * 40, 300)


@pytest.fixture(scope="module")
def scorer(tokenizer: Tokenizer) -> Scorer:
    return Scorer(Decoder(Llama(Shape(2, 32, 4, 2, 64, 300, context=256)).initialise(3)), tokenizer)


class Told(Scorer):
    """A scorer that likes texts as it is told, at one token a word."""

    def __init__(self, liked: dict[str, float]) -> None:
        self.liked = liked

    def score(self, pairs: Any, report: Any = None) -> list[Score]:
        return [Score(self.liked.get((c + x).strip(), -99.0), len(x.split()), False) for c, x in pairs]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_choices_are_compared_by_sum_by_bytes_and_by_tokens() -> None:
    item = item_of({"query": "Q \n", "choices": ["aaaa aaaa", "b", "c c c c c c"], "gold": 0}, "\nAnswer:")
    assert item.pairs[1] == ("Q\nAnswer:", " b")
    told = {"Q\nAnswer: aaaa aaaa": -4.5, "Q\nAnswer: b": -2.0, "Q\nAnswer: c c c c c c": -6.0}
    figures = choose(Told(told), [item]).figures
    assert {name: figure.value for name, figure in figures.items()} == {
        "accuracy": 0.0,  # −2 is the highest
        "accuracy by bytes": 1.0,  # −4.5 over 9 bytes
        "accuracy by tokens": 0.0,  # −6 over 6 tokens
    }


def test_options_of_context_are_compared_by_what_follows_them() -> None:
    row = {"context_options": ["the trophy", "the suitcase"], "continuation": "is large.", "gold": 0}
    twin = {**row, "continuation": "is small.", "gold": 1}
    told = {"the trophy is large.": -3.0, "the suitcase is large.": -4.0, "the trophy is small.": -1.0}
    result = choose(Told(told), [item_of(row), item_of(twin)])
    assert result.outcomes == (1.0, 0.0)
    assert result.clusters is not None
    assert len(set(result.clusters)) == 1


def test_minimal_pairs_are_whole_sentences_with_a_figure_for_each_phenomenon() -> None:
    rows = [
        {"sentence_good": f"good {n}", "sentence_bad": f"bad {n}", "linguistics_term": term, "UID": "u"}
        for n, term in enumerate(["binding", "binding", "ellipsis"])
    ]
    result = choose(Told({"good 0": -1, "bad 1": -1, "good 2": -1}), [item_of(row) for row in rows])
    assert item_of(rows[0]).pairs == (("", "good 0"), ("", "bad 0"))
    assert {name: figure.value for name, figure in result.groups.items()} == {"binding": 0.5, "ellipsis": 1.0}


def test_a_model_that_tells_nothing_apart_is_never_right() -> None:
    assert choose(Told({}), [Item((("", "a"), ("", "b")), 0)]).headline.value == 0
    assert best([1.0, math.nan]) == best([2.0, 2.0]) == -1


def test_a_continuation_is_right_where_greedy_generation_writes_it(scorer: Scorer, tokenizer: Tokenizer) -> None:
    from isoflop.inference.requests import Request
    from isoflop.inference.sampling import Sampling

    prompt = (tokenizer.bos, *tokenizer.encode("the law"))
    ((written,),) = Engine(scorer.decoder, tokenizer).generate([Request(prompt, max_tokens=3, sampling=Sampling(0))])
    result = scorer.reader.score([(prompt, tuple(written.ids)), (prompt, (5, 5, 5))])
    assert [score.greedy for score in result] == [True, False]
    assert result[0].logprob == pytest.approx(sum(written.logprobs), abs=1e-4)


def test_perplexity_of_continuations_is_e_to_their_mean_nats() -> None:
    pairs = [continuation_of({"context": "a", "continuation": x}, " ") for x in ("b", "c")]
    result = complete(Told({"a b": -1.0, "a c": -3.0}), pairs)
    assert result.figures["perplexity"].value == pytest.approx(math.exp(2))


@torch.no_grad()
def test_bits_per_byte_are_of_every_token_over_the_texts_own_bytes(scorer: Scorer, tokenizer: Tokenizer) -> None:
    texts = ["the law of the land – naïve 日本語 🙂", "", "a law"]
    nats = 0.0
    model = Llama(scorer.decoder.shape).initialise(3)
    for text in filter(None, texts):
        ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(text)]])
        logprobs = model(ids)[0, :-1].log_softmax(-1)
        nats -= float(logprobs.gather(1, ids[0, 1:, None]).sum())
    result = predict(scorer, texts)
    held = sum(len(text.encode()) for text in texts)
    assert result.headline.value == pytest.approx(nats / math.log(2) / held, rel=1e-5)
    assert (result.counts["bytes"], result.counts["documents"]) == (held, 3)
    with pytest.raises(ValueError, match="empty"):
        predict(scorer, [""])


def test_windows_of_long_texts_see_at_least_half_a_context(scorer: Scorer, tokenizer: Tokenizer) -> None:
    text = "the law of the land is a law " * 60
    ids = tokenizer.encode(text)
    assert len(ids) > 2 * 256
    result = predict(scorer, [text])
    short = predict(scorer, [text], stride=256)
    assert result.counts["tokens"] == short.counts["tokens"] == len(ids)
    assert result.figures["nats per token"].value != short.figures["nats per token"].value


def test_answers_are_generated_checked_and_watched(scorer: Scorer, tokenizer: Tokenizer) -> None:
    prompts = [(tokenizer.bos, *tokenizer.encode(text)) for text in ("the", "law of", "land")]
    prompts.append((tokenizer.bos,) * 256)
    engine = Engine(scorer.decoder, tokenizer)
    asked: list[int] = []

    def check(number: int, _: str) -> bool:
        asked.append(number)
        return number == 1

    found = answer(engine, prompts, check, Answering(max_tokens=5))
    result = found.result
    assert asked == [0, 1, 2]
    assert (result.outcomes, result.counts) == ((0.0, 1.0, 0.0, 0.0), {"prompts too long": 1})
    assert result.figures["accuracy"].value == 0.25
    assert 0 < result.figures["tokens"].value <= 5
    alone = answer(engine, prompts[1:2], check, Answering(max_tokens=5))
    assert alone.completions[0][0].ids == found.completions[1][0].ids


def test_pass_at_k_is_without_bias() -> None:
    right = [[True, False, False, False], [False] * 4, [True] * 4]
    figures = Answers([[Completion([1], [0.0], "", "stop")] * 4] * 3, right, 0).result.figures
    assert figures["accuracy"].value == pytest.approx((0.25 + 0 + 1) / 3)
    assert figures["pass@2"].value == pytest.approx((0.5 + 0 + 1) / 3)  # 1 − C(3,2)/C(4,2)
    assert figures["pass@4"].value == pytest.approx(2 / 3)
    assert figures["pass@4"].low < 2 / 3 < figures["pass@4"].high


def test_texts_that_repeat_and_go_round_are_counted() -> None:
    assert repeated([1, 2, 3]) == 0
    assert repeated([1, 2, 3, 4] * 2) == pytest.approx(1 / 5)
    assert loops([9, 8, *[1, 2, 3] * 4])
    assert loops([7] * 12)
    assert not loops([7] * 11)
    assert not loops([*[1, 2, 3] * 4, 9])
    figures = watched([[Completion([7] * 12, [], "", "length"), Completion([1, 2], [], "", "stop")]])
    assert (figures["tokens"].value, figures["hit the limit"].value, figures["looping"].value) == (7, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "number"),
    [("so 3 + 4 = 7.", 7), ("$1,250.50", "1250.5"), ("it is −3", -3), ("10-4", 4), ("#### 42", 42), ("1/2", "1/2"),
     ("none", None), ("", None), ("9 at 1/0", None), ("x2", None)],
)  # fmt: skip
def test_the_last_number_is_the_answer(text: str, number: Any) -> None:
    assert last_number(text) == (None if number is None else Fraction(number))


def test_questions_have_numbers_and_prompts_show_how() -> None:
    gsm = question_of({"question": "How many?", "answer": "2+2=<<2+2=4>>4\n#### 4"})
    assert (gsm.answer, gsm.worked) == (4, "2+2=4\n#### 4")
    assert gsm.check("I think 5, no: 4.0")
    svamp = question_of({"context": "And now?", "answer": "7"})
    assert few_shot(svamp, [gsm]) == "Question: How many?\nAnswer: 2+2=4\n#### 4\n\nQuestion: And now?\nAnswer:"
    with pytest.raises(ValueError, match="no number"):
        question_of({"question": "x", "answer": "many"})


def test_longer_answers_that_win_for_their_length_do_not_win_at_equal_length() -> None:
    draw = random.Random(3)
    longer = [draw.gauss(0.7, 0.7) for _ in range(400)]
    rewards = [float(draw.random() < 1 / (1 + math.exp(-2 * each))) for each in longer]
    first = [Rated(0.5, 100)] * 400
    second = [Rated(reward, round(101 * math.exp(each) - 1)) for reward, each in zip(rewards, longer, strict=True)]
    judged = win_rate(first, second)
    assert judged.rate.low > 0.65
    assert judged.buckets["longer"].value > 0.7 > 0.5 > judged.buckets["shorter"].value
    assert judged.at_equal_length.low < 0.5 < judged.at_equal_length.high < judged.rate.low
    ties = win_rate(first, [each._replace(reward=0.5) for each in second])
    assert (ties.rate.value, ties.ties) == (0.5, 400)
    assert ties.at_equal_length.value == pytest.approx(0.5)
    with pytest.raises(ValueError, match="not a number"):
        win_rate([Rated(0, 1)], [Rated(math.nan, 1)])
    with pytest.raises(ValueError, match="as many"):
        win_rate([Rated(0, 1)], [])


def test_requests_of_a_document_are_one_item_and_those_without_a_question_none(tmp_path: Path) -> None:
    def row(document: int, place: int) -> dict[str, Any]:
        request = {"context": f"c{document}", "continuation": f" x{place}"}
        return {"request_type": "loglikelihood", "request": request, "doc": {}, "doc_id": document, "idx": place,
                "label": 1}  # fmt: skip

    path = tmp_path / "r.jsonl.gz"
    rows = [row(document, place) for document in (0, 1, 1_000_000) for place in (1, 0)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    items = load(str(path), tmp_path).items
    assert [item.pairs for item in items] == [(("c0", " x0"), ("c0", " x1")), (("c1", " x0"), ("c1", " x1"))]
    assert gathered([request_of(rows[0]), request_of(rows[1])])[0].gold == 1


def test_bad_rows_are_named_by_file_and_line_and_skipped_up_to_a_share(tmp_path: Path, scorer: Scorer) -> None:
    good = {"query": "q", "choices": ["a", "b"], "gold": 0}
    bad: list[Any] = [{**good, "gold": 2}, {**good, "choices": ["a"]}, {"query": "q"}, "[1]", "{", {**good, "query": 3}]
    path = write(tmp_path / "t.jsonl", [good] * 99 + bad[:1] + [""])
    task = load(str(path), tmp_path)
    assert len(task.items) == 99
    assert task.bad == [f"{path}:100: 'gold' must be a number from 0 to 1, not 2"]
    assert task.run(scorer, Setting()).counts["rows skipped"] == 1
    for row in bad:
        with pytest.raises(ValueError, match=r"t\.jsonl:2: .*1 of 2 rows"):
            read_rows([write(path, [good, row])], item_of)
    with pytest.raises(ValueError, match="no rows"):
        read_rows([write(path, [])], item_of)


def test_unknown_tasks_forms_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean lambada"):
        load("lambda", tmp_path)
    with pytest.raises(ValueError, match=r"needs piqa\.jsonl.*--data"):
        load("piqa", tmp_path)
    with pytest.raises(ValueError, match="no form known"):
        load(str(write(tmp_path / "x.jsonl", [{"a": 1}])), tmp_path)


def test_some_items_are_the_same_ones_every_time_and_not_the_first() -> None:
    chosen = some(range(100), 10)
    assert chosen == some(range(100), 10) == sorted(chosen)
    assert chosen != list(range(10))
    assert some(range(3), 9) == [0, 1, 2]
    assert set(chosen) < set(some(range(100), 20))


@needs_data
def test_every_named_task_reads_its_published_files(scorer: Scorer) -> None:
    for name in TASKS:
        task = load(name, DATA, 12)
        assert len(task.items) == 12, name
        assert not task.bad, name
    assert sum(map(len, (load("blimp", DATA).items,))) == 67_000


@needs_data
def test_a_model_that_learned_nothing_tells_half_of_minimal_pairs(scorer: Scorer) -> None:
    figure = load("blimp", DATA, 300).run(scorer, Setting()).headline
    assert 0.35 < figure.value < 0.65


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "tiny"
    source = Held(Llama(Shape(2, 32, 4, 2, 64, 300, context=256)).initialise(5))
    export_ours(source, out, beside={TOKENIZER: tokenizer.to_bytes()})
    return out


def test_the_command_puts_models_side_by_side(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"query": f"the law {n}", "choices": ["of", "land"], "gold": n % 2} for n in range(20)]
    choices = write(tmp_path / "choices.jsonl", rows)
    questions = write(tmp_path / "q.jsonl", [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(6)])
    text = tmp_path / "text.txt"
    text.write_text("the law of the land " * 20)
    tasks = ["--tasks", f"{choices},{questions},{text}", "--max-tokens", "4", "--shots", "2", "--device", "cpu"]
    out = tmp_path / "found.json"
    copy = shutil.copytree(model, tmp_path / "copy")
    assert cli.dispatch(["evaluate", str(model), str(copy), *tasks, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert printed[str(copy)][str(choices)]["difference"]["value"] == 0
    found = printed[str(model)][str(choices)]
    assert found["figures"]["accuracy"]["count"] == 20
    assert cli.dispatch(["evaluate", str(model), *tasks, "--chat", "--samples", "2"]) == 0
    table = capsys.readouterr().out
    assert "pass@2" in table
    assert "bits per byte" in table
    assert cli.dispatch(["evaluate", str(model), "--tasks", "blimb", "--data", str(tmp_path)]) == 1
    assert "did you mean blimp?" in capsys.readouterr().err


def test_problems_are_tasks_that_check_themselves(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", generate("order", 1, 4, 0, "held-out"))
    task = load(str(tmp_path / "problems.jsonl"), tmp_path)
    assert all(item.check(item.worked) and not item.check("Nobody") for item in task.items)
    shown = few_shot(task.items[0], task.items[1:])
    assert task.items[1].worked in shown
    assert shown.endswith(f"{task.items[0].prompt}\nAnswer:")


def test_questions_of_which_none_leaves_room_for_an_answer_are_refused(scorer: Scorer, tmp_path: Path) -> None:
    rows = [{"question": f"{n} " + "law " * 100, "answer": str(n)} for n in range(6)]
    task = load(str(write(tmp_path / "q.jsonl", rows)), tmp_path)
    with pytest.raises(ValueError, match=r"none of 2 questions leaves room .* show fewer \(--shots\)"):
        task.run(scorer, Setting())
