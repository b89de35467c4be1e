import json
from pathlib import Path

import numpy as np
import pytest
from dedup import kept, prose, run, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus.dedup import benchmarks
from isoflop.corpus.dedup.decontaminate import Decontaminate, gpt3, llama3
from isoflop.corpus.document import CorpusError
from isoflop.corpus.stage import Dropped

SHARED = Path(__file__).parents[2] / "shared"
QUESTION = "A robe takes two bolts of blue fiber and half that much white fiber. How many bolts in total does it take?"


@pytest.fixture
def bench(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    rows = [
        {"query": QUESTION, "choices": ["Three", "Four"], "gold": 0},
        {"query": "Which of these is the largest of the planets?", "choices": [], "gold": 1},
        {"query": "Too short", "gold": 1},
    ]
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "prose.txt").write_text("One paragraph of words.\n\n" + " ".join(f"w{i}" for i in range(40)) + "\n")
    return folder


def reports(folder):
    return [json.loads(line) for path in sorted(folder.glob("matches-*.jsonl")) for line in path.open()]


def test_an_item_is_found_whatever_its_case_and_punctuation_and_reported_with_its_place(tmp_path, bench):
    texts = [
        "Nothing here.",
        f"Before.\n{QUESTION.upper().replace(' ', '  ').replace('.', ' --')} After.",
        "",
        QUESTION[:40],
    ]
    verdicts = run(Decontaminate((str(bench),)), texts, tmp_path / "a", [1])
    assert kept(verdicts) == [0, 2, 3]
    assert verdicts[1].detail == "quiz.jsonl:1"
    (report,) = reports(tmp_path / "a")
    ((start, end),) = report["spans"]
    assert (report["document"], report["benchmark"], report["item"]) == ("t:1", "quiz.jsonl", 1)
    assert texts[1][start:end].startswith("A  ROBE")
    assert texts[1][start:end].endswith("TAKE")
    assert report["text"] == texts[1][start:end][:200]
    assert 0.9 < report["share"] < 1


def test_a_short_item_is_found_only_as_a_whole_and_a_very_short_one_never(tmp_path, bench):
    texts = ["Which of these is the largest of the planets", "which of these is the largest of the moons", "too short"]
    assert kept(run(Decontaminate((str(bench),)), texts, tmp_path / "a")) == [1, 2]
    index = benchmarks.load(tmp_path / "a")
    assert index.skipped["items too short"] == 2


def test_cutting_leaves_the_rest_of_the_document(tmp_path, bench):
    text = "Some words before it. " + QUESTION + " And some words behind it."
    stage = Decontaminate((str(bench),), action="cut")
    assert texts_of(run(stage, [text], tmp_path / "a")) == ["Some words before it. ? And some words behind it."]
    verdicts = run(gpt3(str(bench)), [text, "x " * 300 + text], tmp_path / "b")
    assert isinstance(verdicts[0], Dropped)
    assert verdicts[1].text.split() == ["x"] * 211


def test_the_share_of_an_item_is_of_its_own_words(tmp_path, bench):
    some = " ".join(f"w{i}" for i in range(16))
    most = " ".join(f"w{i}" for i in range(30))
    assert kept(run(llama3(str(bench)), [some, most], tmp_path / "a")) == [0]
    assert [report["share"] for report in reports(tmp_path / "a")] == [0.75]


def test_a_share_counts_a_run_once_however_often_document_or_item_repeat_it(tmp_path, bench):
    run_of_8 = " ".join(f"w{i}" for i in range(8))
    assert kept(run(llama3(str(bench)), [" and then ".join([run_of_8] * 9)], tmp_path / "a")) == [0]
    refrain = " ".join(f"r{i}" for i in range(20))
    (tmp_path / "song.jsonl").write_text(json.dumps({"text": " ".join([refrain] * 5)}))
    song = llama3(str(tmp_path / "song.jsonl"))
    assert kept(run(song, [" ".join([refrain] * 5), refrain[:30]], tmp_path / "b")) == [1]
    assert [report["share"] for report in reports(tmp_path / "b")] == [1.0]


def test_paragraphs_may_end_in_any_line_end(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"one\r\n\r\ntwo\r\nlines\n \nthree")
    assert [item.text for item in benchmarks.items([str(tmp_path)])] == ["one\r", "two\r\nlines", "three"]


def test_a_template_of_many_items_is_not_contamination(tmp_path):
    template = "Please answer the following question with yes or no and give a reason for the answer"
    rng = np.random.default_rng(0)
    bench = tmp_path / "b.jsonl"
    bench.write_text("".join(json.dumps({"q": f"{template} {' '.join(prose(rng, 5))}"}) + "\n" for _ in range(20)))
    assert kept(run(Decontaminate((str(bench),)), [template], tmp_path / "a")) == [0]
    assert kept(run(Decontaminate((str(bench),), common=30), [template], tmp_path / "c")) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_documents_with_a_common_run_of_n_words_and_no_others_are_dropped(tmp_path_factory, seed, n):
    """The oracle: every run of words of every item in a set."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("d")
    draws = [[prose(rng, int(rng.integers(0, 14)), 3) for _ in range(8)] for _ in range(2)]
    questions, texts = ([" ".join(words) for words in rows] for rows in draws)
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": q}) + "\n" for q in questions))
    wanted = set()
    for words in draws[0]:
        length = min(n, len(words))
        if length >= 2:
            wanted |= {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    def hit(words):
        return any(tuple(words[i:j]) in wanted for i in range(len(words)) for j in range(i + 1, len(words) + 1))

    stage = Decontaminate((str(folder / "b.jsonl"),), n=n, shortest=2, common=1000)
    expected = [i for i, words in enumerate(draws[1]) if not (n > 1 and hit(words))]
    if n > 1:
        assert kept(run(stage, texts, folder / "s", [3])) == expected


def test_what_is_no_benchmark_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no benchmark at"):
        run(Decontaminate((str(tmp_path / "none"),)), ["a"], tmp_path / "a")
    (tmp_path / "b.jsonl").write_text('{"q": 1}\n{')
    with pytest.raises(CorpusError, match="b.jsonl:2 is not JSON"):
        run(Decontaminate((str(tmp_path / "b.jsonl"),)), ["a"], tmp_path / "b")
    with pytest.raises(ValueError, match="benchmarks"):
        Decontaminate(())


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")
def test_gsm8k_is_found_in_itself_and_not_in_its_training_split(tmp_path):
    stage = Decontaminate((str(SHARED / "corpus/standard/gsm8k/test.jsonl"),))
    held_out = [
        item.text for item in benchmarks.items([str(SHARED / "corpus/heldout/whole-math-gsm8k-test.jsonl.zst")])
    ]
    train = [item.text for item in benchmarks.items([str(SHARED / "corpus/math/gsm8k-train.jsonl.zst")])]
    assert len(kept(run(stage, held_out[:200], tmp_path / "a"))) == 0
    assert len(kept(run(stage, train[:500], tmp_path / "b"))) > 480
