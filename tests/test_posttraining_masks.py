"""The coloured view shows every token once, by its kind, and says what a data set comes to."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.cli import masks as command
from isoflop.posttraining.chat import Chat, Kind
from isoflop.posttraining.conversation import Conversation, Message, Ranking
from isoflop.posttraining.masks_view import Statistics, parts
from isoflop.tokens import train_tokenizer

TOKENIZER = train_tokenizer(["the law of the land is a law – naïve 日本語 system user assistant"] * 40, 300)
TALK = Conversation((Message("user", "the land?"), Message("assistant", "a law 🦙")))
PAIR = Ranking((Message("user", "the land?"),), ("a law", "the"))


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(TOKENIZER)


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def rows(folder: Path, *values: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@settings(max_examples=50, deadline=None)
@given(said=st.lists(st.text(max_size=12), min_size=2, max_size=4), context=st.integers(1, 60))
def test_pieces_are_all_tokens_in_order_and_spell_what_was_said(said: list[str], context: int) -> None:
    chat = Chat(TOKENIZER)
    messages = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(said))
    ((_, pieces),) = parts(chat, Conversation(messages), context)
    encoded = chat.encode(messages)
    assert [number for piece in pieces for number in piece.ids] == encoded.ids
    assert [piece.kind for piece in pieces for _ in piece.ids] == encoded.kinds
    assert sum(len(piece.ids) for piece in pieces if piece.seen) == min(context, len(encoded.ids))
    ((_, whole),) = parts(chat, Conversation(messages), 10**9)
    answers = "".join(piece.text for piece in whole if piece.kind == Kind.ANSWER)
    assert answers == "".join(text.strip() for text in said[1::2])


def test_a_ranking_is_its_prompt_and_its_responses(chat: Chat) -> None:
    prompt, best, worst = parts(chat, PAIR, 100)
    assert (prompt.title, best.title, worst.title) == ("prompt", "response 1, the best", "response 2, the worst")
    assert {piece.kind for piece in prompt.pieces} == {Kind.GIVEN, Kind.HEADER}
    assert "".join(piece.text for piece in best.pieces) == "a law<|eot_id|>"


def test_statistics_count_tokens_by_kind_and_what_the_context_cuts(chat: Chat) -> None:
    encoded = chat.encode(TALK.messages)
    found = Statistics(len(encoded.ids) - 1)
    found.add(chat, TALK, "a:1")
    found.add(chat, Conversation((Message("assistant", ""),)), "a:2")
    assert (found.examples, found.cut, found.lost) == (2, 1, 0)
    assert (found.longest, found.longest_place) == (len(encoded.ids), "a:1")
    assert found.tokens[Kind.ANSWER] == encoded.kinds.count(Kind.ANSWER)
    assert found.tokens[Kind.END] == 1  # the first's is cut off
    assert found.to_json()["trained_share"] == pytest.approx((found.tokens[Kind.ANSWER] + 1) / found.tokens.total())


class TestCommand:
    def test_it_prints_kinds_and_shares(
        self, tmp_path: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = rows(tmp_path, {"prompt": "the land?\x1b[31m", "completion": "a law"})
        command.main([str(path), "--model", str(tokenizer_file)])
        out = capsys.readouterr().out
        assert " answer | a law\n    end | <|eot_id|>" in out
        assert "\x1b" not in out
        assert "1 of 1 rows (1 prompt and completion)" in out

    def test_preferences_are_shown_as_such_and_json_has_the_counts(
        self, tmp_path: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = rows(tmp_path, {"prompt": "the land?", "chosen": "a law", "rejected": "the"})
        command.main([str(path), "--model", str(tokenizer_file)])
        assert "[response 2, the worst]" in capsys.readouterr().out
        command.main([str(path), "--model", str(tokenizer_file), "--read-as", "conversations", "--json"])
        found = json.loads(capsys.readouterr().out)
        ids = Chat(TOKENIZER).encode([Message("user", "the land?"), Message("assistant", "a law")]).ids
        assert (found["tokens"], found["reading"]["formats"]) == (len(ids), {"preference, explicit prompt": 1})

    def test_the_page_acts_on_nothing_that_a_text_holds(self, tmp_path: Path, tokenizer_file: Path) -> None:
        said = '<script>alert(1)</script> "the" & \u202elaw'
        path = rows(tmp_path, {"prompt": said, "completion": said})
        command.main([str(path), "--model", str(tokenizer_file), "--html", str(tmp_path / "a.html")])
        page = (tmp_path / "a.html").read_text()
        assert "<script" not in page
        assert "\u202e" not in page
        shown = re.findall(r'<span class="answer[^"]*" title="[^"]+">([^<]*)</span>', page)
        assert html.unescape("".join(shown)) == said.replace("\u202e", "\\u{202e}")

    def test_data_that_train_on_nothing_are_an_error(self, tmp_path: Path, tokenizer_file: Path) -> None:
        path = rows(tmp_path, {"prompt": "the land " * 50, "completion": "a law"})
        with pytest.raises(ValueError, match="1 examples train on nothing"):
            command.main([str(path), "--model", str(tokenizer_file), "--context", "40"])

    def test_a_column_that_is_not_there_is_named(self, tmp_path: Path, tokenizer_file: Path) -> None:
        path = rows(tmp_path, {"question": "the land", "reply": "a law"})
        with pytest.raises(ValueError, match="did you mean 'reply'"):
            command.main([str(path), "--model", str(tokenizer_file), "--columns", "answer=repl"])


def test_it_needs_a_tokenizer_with_the_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer"):
        command.main([str(rows(tmp_path, {})), "--model", str(tmp_path)])
