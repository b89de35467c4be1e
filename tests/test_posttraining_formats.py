"""Every format is named and says the same; what cannot be used is counted with its place, and ends no reading."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.posttraining.conversation import Conversation, Message, Ranking
from isoflop.posttraining.formats import (
    FIELDS,
    Tally,
    read_conversations,
    read_examples,
    read_prompts,
    read_rankings,
    write_rows,
)
from isoflop.posttraining.formats.columns import parse

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "posttraining"
ASK, ANSWER, WORSE = "What is a law?", "A rule.", "No idea."
USER, ASSISTANT = {"role": "user", "content": ASK}, {"role": "assistant", "content": ANSWER}
HUMAN, GPT = {"from": "human", "value": ASK}, {"from": "gpt", "value": ANSWER}
BAD, BAD_GPT = {"role": "assistant", "content": WORSE}, {"from": "gpt", "value": WORSE}

PLAIN = {
    "OpenAI messages": [{"messages": [USER, ASSISTANT]}, {"messages": [USER, ASSISTANT], "prompt": "other words"}],
    "ShareGPT": [{"conversations": [HUMAN, GPT]}, {"conversations": [HUMAN, GPT], "system": "", "tools": "[]"}],
    "Alpaca": [{"instruction": ASK, "input": "", "output": ANSWER}, {"instruction": ASK, "response": ANSWER}],
    "prompt and completion": [{"prompt": ASK, "completion": ANSWER}, {"prompt": [USER], "completion": [ASSISTANT]}],
    "question and answer": [{"question": ASK, "answer": ANSWER}],
    "KTO": [{"messages": [USER, ASSISTANT], "label": True}, {"prompt": ASK, "completion": ANSWER, "label": True}],
}
PREFERENCES = {
    "preference, explicit prompt": [
        {"prompt": ASK, "chosen": ANSWER, "rejected": WORSE},
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [BAD]},
        {"question": ASK, "chosen": ANSWER, "rejected": WORSE, "system": ""},
        {"messages": [USER], "chosen": ASSISTANT, "rejected": BAD},
    ],
    "preference, implicit prompt": [
        {"chosen": [USER, ASSISTANT], "rejected": [USER, BAD]},
        {"prompt": ASK, "chosen": [USER, ASSISTANT], "rejected": [USER, BAD], "messages": [USER, ASSISTANT]},
    ],
    "ShareGPT preference": [{"conversations": [HUMAN], "chosen": GPT, "rejected": BAD_GPT}],
    "Alpaca preference": [{"instruction": ASK, "input": "", "output": ANSWER, "chosen": ANSWER, "rejected": WORSE}],
    "HH": [
        {
            "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {ANSWER}",
            "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {WORSE}",
        }
    ],
    "ranking": [
        {"prompt": ASK, "responses": [WORSE, ANSWER], "scores": [1, 2.5]},
        {"instruction": ASK, "responses": [WORSE, ANSWER], "ranks": [2, 1]},
        {"prompt": ASK, "completions": [{"text": WORSE, "score": 0}, {"text": ANSWER, "score": 1}], "score": 7},
    ],
}


def written(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


class TestFormats:
    @pytest.mark.parametrize("name", PLAIN)
    def test_conversations_are_named_and_converted(self, name: str, tmp_path: Path) -> None:
        tally = Tally()
        found = [one.value for one in read_conversations([written(tmp_path, PLAIN[name])], tally)]
        wanted = Conversation((Message("user", ASK), Message("assistant", ANSWER)))
        assert found == [wanted] * len(PLAIN[name])
        assert tally.formats == {name: len(found)}

    @pytest.mark.parametrize("name", PREFERENCES)
    def test_preferences_are_named_and_ranked(self, name: str, tmp_path: Path) -> None:
        tally, path = Tally(), written(tmp_path, PREFERENCES[name])
        found = [one.value for one in read_rankings([path], tally)]
        assert found == [Ranking((Message("user", ASK),), (ANSWER, WORSE))] * len(PREFERENCES[name])
        assert tally.formats == {name: len(found)}
        assert [one.value.messages[-1].content for one in read_conversations([path])] == [ANSWER] * len(found)
        assert [one.value for one in read_prompts([path])] == [(Message("user", ASK),)] * len(found)

    def test_an_edited_answer_is_better_than_the_chosen_one(self, tmp_path: Path) -> None:
        row = {"prompt": ASK, "edited": "A rule!", "chosen": ANSWER, "rejected": WORSE}
        (found,) = read_rankings([written(tmp_path, [row])])
        assert found.value.responses == ("A rule!", ANSWER, WORSE)

    def test_of_equal_scores_the_first_stands_alone(self, tmp_path: Path) -> None:
        row = {"prompt": ASK, "responses": ["a", "b", "c"], "scores": [1, 2, 1]}
        (found,) = read_rankings([written(tmp_path, [row])])
        assert found.value.responses == ("b", "a")

    def test_labels_are_kept_and_what_is_labelled_bad_is_no_conversation(self, tmp_path: Path) -> None:
        rows = [{"messages": [USER, ASSISTANT], "label": True}, {"messages": [USER, BAD], "label": False}]
        path, tally = written(tmp_path, rows), Tally()
        assert [one.value.label for one in read_examples([path])] == [True, False]
        assert len(list(read_conversations([path], tally))) == 1
        assert tally.skipped == {"labelled bad": 1}

    def test_alpacas_input_system_and_history_come_before_the_answer(self, tmp_path: Path) -> None:
        row = {"instruction": "c", "input": "d", "output": "e", "system": "s", "history": [["a", "b"]]}
        (found,) = read_conversations([written(tmp_path, [row])])
        said = [(message.role[0], message.content) for message in found.value.messages]
        assert said == [("s", "s"), ("u", "a"), ("a", "b"), ("u", "c\n\nd"), ("a", "e")]

    def test_tools_are_text_in_either_spelling(self, tmp_path: Path) -> None:
        call = '{"name": "add", "arguments": {"a": 1}}'
        tools = [{"name": "add"}]
        openai = {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}],
                },
                {"role": "tool", "content": "1"},
                {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
            ],
            "tools": tools,
        }
        sharegpt = {
            "conversations": [
                HUMAN,
                {"from": "function_call", "value": call},
                {"from": "observation", "value": "1"},
                GPT,
            ],
            "tools": json.dumps(tools),
        }
        one, other = (found.value for found in read_conversations([written(tmp_path, [openai, sharegpt])]))
        assert one == other
        assert [message.role for message in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
        assert one.messages[2].content == call
        assert one.messages[0].content.endswith('[{"name": "add"}]')

    def test_a_message_of_no_weight_is_not_learned_and_is_written_so(self, tmp_path: Path) -> None:
        row = {"messages": [USER, {**BAD, "weight": 0}, USER, {**ASSISTANT, "weight": 1}]}
        (found,) = read_conversations([written(tmp_path, [row])])
        assert [message.learned for message in found.value.messages] == [True, False, True, True]
        write_rows(tmp_path / "again.jsonl", [found.value])
        assert [one.value for one in read_conversations([tmp_path / "again.jsonl"])] == [found.value]


class TestBadRows:
    def test_each_is_counted_with_its_reason_and_place_and_skipped(self, tmp_path: Path) -> None:
        good = {"messages": [USER, ASSISTANT]}
        bad = {
            "broken JSON": '{"messages": [',
            "not an object but a list": "[1]",
            "unknown role 'narrator'": {"messages": [{"role": "narrator", "content": "x"}]},
            '"content" is not text but int': {"messages": [{"role": "user", "content": 3}]},
            "half a surrogate pair": '{"prompt": "\\ud800", "completion": "x"}',
            "no known format: the fields are instruct, output; did you mean 'instruction'": {
                "instruct": "",
                "output": "",
            },
            "an empty list of messages": {"messages": []},
            "an empty answer": {"prompt": "x", "completion": " \n"},
            "an empty message of the user": {"prompt": "", "completion": "x"},
            "no answer": {"messages": [USER]},
            "a weight of 0.5, which is neither 0 nor 1": {"messages": [USER, {**ASSISTANT, "weight": 0.5}]},
            "a message with image_url, which is no text": {
                "messages": [{"role": "user", "content": [{"type": "image_url"}]}]
            },
            "a call of a tool whose arguments are no JSON": {
                "messages": [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}}]
            },
        }
        path = written(tmp_path, [good, "", *bad.values()])
        tally = Tally(most_malformed=1)
        assert [one.place for one in read_conversations([path], tally)] == [f"{path}:1"]
        assert (tally.rows, tally.kept, tally.skipped.total()) == (1 + len(bad), 1, len(bad))
        for line, reason in enumerate(bad, 3):
            (where,) = [places for found, places in tally.places.items() if reason in found]
            assert where == [f"{path}:{line}"], reason
        assert tally.malformed == 9
        assert "broken JSON" in str(tally)
        assert json.loads(json.dumps(tally.to_json()))["kept"] == 1

    def test_more_malformed_rows_than_the_stated_share_are_an_error(self, tmp_path: Path) -> None:
        good = [{"messages": [USER, ASSISTANT]}] * 19
        assert len(list(read_conversations([written(tmp_path, [*good, "{"])]))) == 19
        path = written(tmp_path, [*good, "{", "{"])
        with pytest.raises(ValueError, match=r"2 of 21 rows are malformed.*broken JSON.*data.jsonl:20"):
            list(read_conversations([path]))

    def test_useless_rows_are_no_error_until_nothing_is_left(self, tmp_path: Path) -> None:
        useless = [{"prompt": ASK, "chosen": WORSE, "rejected": f" {WORSE}"}] * 9
        tally = Tally()
        found = read_rankings([written(tmp_path, [{"prompt": ASK, "chosen": "a", "rejected": "b"}, *useless])], tally)
        assert len(list(found)) == 1
        assert tally.skipped == {"the same text chosen and rejected": 9}
        with pytest.raises(ValueError, match=r"no ranking in 9 rows: the same text chosen and rejected \(9:"):
            list(read_rankings([written(tmp_path, useless)]))

    def test_sides_that_part_early_are_left_out(self, tmp_path: Path) -> None:
        rows = [*PREFERENCES["HH"], {"chosen": [USER, ASSISTANT], "rejected": [ASSISTANT, BAD]}]
        tally = Tally()
        assert len(list(read_rankings([written(tmp_path, rows)], tally))) == 1
        assert tally.skipped == {"chosen and rejected differ before their last messages": 1}

    @settings(max_examples=150, deadline=None)
    @given(
        row=st.dictionaries(
            st.sampled_from(FIELDS),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just("\n\nHuman: x\n\nAssistant: y"),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner, max_size=3)
                    | st.just({"role": "assistant", "content": "x"})
                    | st.just({"from": "human", "value": "x"})
                ),
                max_leaves=8,
            ),
            max_size=5,
        )
    )
    def test_whatever_a_row_holds_it_is_converted_or_counted(self, row: dict[str, Any], tmp_path_factory: Any) -> None:
        path = written(tmp_path_factory.mktemp("row"), [row, {"prompt": ASK, "chosen": "a", "rejected": "b"}])
        for read in (read_conversations, read_rankings, read_prompts):
            tally = Tally(most_malformed=1)
            assert len(list(read([path], tally))) == tally.kept
            assert tally.kept + tally.skipped.total() == tally.rows == 2


class TestFiles:
    rows = ({"question": "a", "answer": "b"}, {"question": "c", "answer": "d"})

    def test_lists_lines_and_packed_files_say_the_same(self, tmp_path: Path) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.rows).encode()
        (tmp_path / "a.json").write_text("\ufeff" + json.dumps(self.rows, indent=1))
        (tmp_path / "b.json").write_bytes(lines)
        (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines))
        (tmp_path / "d.json.zst").write_bytes(zstandard.compress(json.dumps(self.rows).encode()))
        (tmp_path / ".hidden.jsonl").write_text("{")
        (tmp_path / "notes.txt").write_text("no rows")
        found = list(read_conversations([tmp_path]))
        assert [one.value.messages[0].content for one in found] == ["a", "c"] * 4
        places = [one.place.removeprefix(f"{tmp_path}/") for one in found]
        assert places[:4] == ["a.json:2", "a.json:6", "b.json:1", "b.json:2"]

    def test_parquet_says_the_same(self, tmp_path: Path) -> None:
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = [{"messages": [USER, ASSISTANT], "score": 1.5}]
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        (found,) = read_conversations([tmp_path / "a.parquet"])
        assert found == next(iter(read_conversations([written(tmp_path, rows)]))).__class__(
            f"{tmp_path}/a.parquet:1", found.value
        )
        assert [message.content for message in found.value.messages] == [ASK, ANSWER]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('[{"question": "a",\n"answer": "b"},\n{"quest', "broken JSON from line 3 on"),
            ('[{"question": "a"} {"question": "b"}]', "comma"),
            ("[", "broken JSON from line 1 on"),
            ("[]", "no conversation in 0 rows at all"),
            ("", "no conversation in 0 rows at all"),
        ],
    )
    def test_a_broken_list_is_an_error_that_says_where(self, text: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            list(read_conversations([tmp_path / "a.json"]))

    def test_a_file_cut_short_is_an_error(self, tmp_path: Path) -> None:
        data = gzip.compress(b'{"question": "a", "answer": "b"}\n' * 100)
        (tmp_path / "a.jsonl.gz").write_bytes(data[:-20])
        with pytest.raises(ValueError, match="damaged or cut short"):
            list(read_conversations([tmp_path / "a.jsonl.gz"]))

    def test_what_is_no_such_file_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="there is no file or folder"):
            list(read_conversations([tmp_path / "no.jsonl"]))
        (tmp_path / "a.csv").write_text("")
        with pytest.raises(ValueError, match=r"should end in one of .json"):
            list(read_conversations([tmp_path / "a.csv"]))
        with pytest.raises(ValueError, match="holds no file"):
            list(read_conversations([tmp_path]))


class TestColumns:
    def test_others_names_are_mapped_and_dots_look_inside(self, tmp_path: Path) -> None:
        path = written(tmp_path, [{"q": ASK, "a": {"text": ANSWER}, "answer": "not this"}])
        (found,) = read_conversations([path], columns=parse("question=q, answer=a.text", FIELDS))
        assert [message.content for message in found.value.messages] == [ASK, ANSWER]

    def test_a_column_that_is_not_there_is_named_with_what_was_meant(self, tmp_path: Path) -> None:
        path = written(tmp_path, [{"question": ASK, "response": ANSWER}])
        with pytest.raises(ValueError, match="no column 'reponse'; did you mean 'response'"):
            list(read_conversations([path], columns={"answer": "reponse"}))

    def test_a_name_that_is_not_ours_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no field 'promt'; did you mean 'prompt'"):
            parse("promt=question", FIELDS)
        with pytest.raises(ValueError, match="ours=theirs"):
            parse("prompt", FIELDS)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(said=st.lists(text, min_size=1, max_size=3), answers=st.lists(text, min_size=2, max_size=4, unique_by=str.strip))
def test_what_is_written_comes_back(said: list[str], answers: list[str], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("written") / "rows.jsonl"
    pairs = [Message(role, one) for one in said for role in ("user", "assistant")]  # type: ignore[arg-type]
    talk, ranks = Conversation((Message("system", "s"), *pairs)), Ranking((Message("user", said[0]),), tuple(answers))
    write_rows(path, [talk, ranks])
    tally = Tally()
    assert next(iter(read_conversations([path], tally))).value == talk
    assert [one.value for one in read_rankings([path])] == [ranks]


@pytest.mark.skipif(not REAL.exists(), reason="the shared data are not there")
class TestRealFiles:
    CONVERSATIONS = (
        ("demos/data/alpaca_en_demo.json", "Alpaca", 999, 999),
        ("demos/data/identity.json", "Alpaca", 91, 91),
        ("demos/data/glaive_toolcall_en_demo.json", "ShareGPT", 300, 300),
        ("demos/data/kto_en_demo.json", "KTO", 300, 150),
        ("gpteacher/Codegen/codegen-instruct.json", "Alpaca", 4535, 4535),
        ("gpteacher/Roleplay/roleplay-simple-deduped-roleplay-instruct.json", "Alpaca", 1923, 1923),
        ("gsm8k/grade_school_math/data/train.jsonl", "question and answer", 7473, 7473),
        ("gsm8k/grade_school_math/data/test.jsonl", "question and answer", 1319, 1319),
        ("gsm8k/grade_school_math/data/test_socratic.jsonl", "question and answer", 1319, 1319),
        ("preference/ch07/01_main-chapter-code/instruction-data.json", "Alpaca", 1100, 1100),
        ("preference/ch07/02_dataset-utilities/instruction-examples.json", "Alpaca", 200, 200),
        ("preference/ch07/02_dataset-utilities/instruction-examples-modified.json", "Alpaca", 200, 200),
    )
    RANKINGS = (
        ("demos/data/dpo_en_demo.json", "ShareGPT preference", 300, 300),
        ("hh-rlhf/harmless-base/test.jsonl.gz", "HH", 2312, 2303),
        (
            "preference/ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json",
            "Alpaca preference",
            1100,
            1094,
        ),
    )

    @pytest.mark.parametrize(("file", "name", "rows", "kept"), CONVERSATIONS)
    def test_conversations(self, file: str, name: str, rows: int, kept: int) -> None:
        tally = Tally()
        assert len(list(read_conversations([REAL / file], tally))) == kept
        assert (tally.formats, tally.rows) == ({name: rows}, rows)
        assert kept + tally.skipped.total() == rows

    @pytest.mark.parametrize(("file", "name", "rows", "kept"), RANKINGS)
    def test_rankings(self, file: str, name: str, rows: int, kept: int) -> None:
        tally = Tally()
        assert len(list(read_rankings([REAL / file], tally))) == kept
        assert (tally.formats, tally.rows, tally.malformed) == ({name: rows}, rows, 0)
        assert kept + tally.skipped.total() == rows

    def test_a_file_of_plain_texts_is_no_post_training_data(self) -> None:
        with pytest.raises(ValueError, match="no known format: the fields are text"):
            list(read_conversations([REAL / "demos" / "data" / "c4_demo.jsonl"]))

    def test_answers_of_models_are_found_by_their_column(self) -> None:
        file = REAL / "gsm8k" / "grade_school_math" / "data" / "example_model_solutions.jsonl"
        found = read_conversations([file], columns={"answer": "6b_finetuning.solution"})
        assert len(list(found)) == 1319
