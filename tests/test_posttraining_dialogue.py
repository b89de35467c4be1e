"""A conversation in the terminal: what is said is kept, stopped answers too, and a model says whether it can answer."""

from __future__ import annotations

import builtins
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from isoflop.cli import chat as command
from isoflop.cli import export as export_command
from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Request
from isoflop.inference.sampling import Sampling
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.dialogue import Dialogue
from isoflop.posttraining.formats import read_conversations
from isoflop.tokens import Tokenizer, train_tokenizer
from isoflop.tokens.chat_template import FILE, TEMPLATE, answers
from isoflop.training.exchange import Import

SHAPE = Shape(2, 32, 2, 1, 64, 300, context=96, tied=False)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the law of the land is a law – naïve 日本語 🙂 system user assistant"] * 40, 300)


@pytest.fixture(scope="module")
def model() -> Llama:
    torch.set_num_threads(1)
    return Llama(SHAPE).initialise(3)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, model: Llama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "aligned"
    export_ours(Held(model), out, beside={"tokenizer.json": tokenizer.to_bytes(), FILE: TEMPLATE.encode()})
    return out


@pytest.fixture
def dialogue(tokenizer: Tokenizer, model: Llama) -> Dialogue:
    return Dialogue(Engine(Decoder(model), tokenizer), Chat(tokenizer), sampling=Sampling(), max_tokens=8, seed=1)


class TestDialogue:
    def test_an_answer_is_what_the_engine_says_after_the_whole_conversation(self, dialogue: Dialogue) -> None:
        dialogue.system = "law"
        first = "".join(dialogue.ask("the land"))
        second = "".join(dialogue.ask("a law"))
        before = [Message("system", "law"), Message("user", "the land"), Message("assistant", first.strip())]
        ids = dialogue.chat.prompt([*before, Message("user", "a law")])
        request = Request(tuple(ids), 1, 8, Sampling(), dialogue.chat.stop_ids, seed=2)
        ((wanted,),) = dialogue.engine.generate([request])
        assert second == wanted.text
        assert [message.role for message in dialogue.messages] == ["system", *["user", "assistant"] * 2]

    def test_a_stopped_answer_counts_as_far_as_it_came(self, dialogue: Dialogue) -> None:
        pieces = dialogue.ask("the land")
        came = next(pieces)
        while not came.strip():
            came += next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert dialogue.said == [Message("user", "the land"), Message("assistant", came.strip())]
        assert dialogue.finish is None

    def test_asking_again_draws_anew_and_undo_takes_back_a_whole_exchange(self, dialogue: Dialogue) -> None:
        dialogue.max_tokens = 30
        first = "".join(dialogue.ask("the land"))
        assert dialogue.undo() == Message("user", "the land")
        assert dialogue.said == []
        assert dialogue.undo() is None
        assert "".join(dialogue.ask("the land")) != first

    def test_a_conversation_longer_than_the_context_goes_on_without_its_beginning(self, dialogue: Dialogue) -> None:
        dialogue.system = "law"
        left_out = []
        for _ in range(6):
            list(dialogue.ask("the law of the land"))
            left_out.append(dialogue.left_out)
        assert left_out[0] == 0
        assert left_out == sorted(left_out)
        assert left_out[-1] > 0
        assert len(dialogue.said) == 12

    def test_a_message_that_cannot_fit_or_says_nothing_is_refused_and_forgotten(self, dialogue: Dialogue) -> None:
        with pytest.raises(ValueError, match="there is room for"):
            list(dialogue.ask("日本語 " * 90))
        with pytest.raises(ValueError, match="nothing is asked"):
            list(dialogue.ask(" \n"))
        assert dialogue.said == []


def typing(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """Let ``input`` give these lines and then end."""
    waiting: Iterator[str] = iter(lines)

    def read(prompt: str = "") -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", read)


class TestTerminal:
    @pytest.fixture
    def at_terminal(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        return lambda lines: typing(monkeypatch, lines)

    def test_commands_do_what_they_say(
        self,
        folder: Path,
        tmp_path: Path,
        at_terminal: Callable[[list[str]], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        kept = tmp_path / "kept.jsonl"
        lines = ["/again", "/save", f"/save {kept}", "the land \\", "is a law", "/system law", "/temperature 0"]
        lines += ["/temperature hot", "/temperature -1", f"/save {kept}", "a law", "/undo", "/again", f"/save {kept}"]
        lines += ["/reset", "/undo", "/sing", "/help", "", "日本語 " * 90]
        at_terminal(lines)
        command.main([str(folder), "--max-tokens", "5", "--temperature", "1"])
        told = capsys.readouterr().err
        assert "was not trained" not in told
        for words in (
            "nothing has been asked yet",
            "/save needs a file",
            "nothing has been said yet",
            "needs a number",
            "must be 0 or more",
            "taken back",
            "begun anew",
            "there is nothing to take back",
            "no /sing",
            "take back the last question",
            "there is room for",
        ):
            assert words in told, words
        one, other = (found.value.messages for found in read_conversations([kept]))
        assert [message.role for message in one] == ["system", "user", "assistant"]
        assert one[1].content == "the land \nis a law"
        assert one[0] == Message("system", "law")
        assert other[:2] == one[:2]

    def test_ctrl_c_stops_an_answer_and_keeps_it(
        self,
        folder: Path,
        tmp_path: Path,
        at_terminal: Callable[[list[str]], None],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        whole = Engine.stream

        def interrupted(self: Engine, requests: list[Request]) -> Iterator[object]:
            for number, event in enumerate(whole(self, requests)):
                if number == 6:
                    raise KeyboardInterrupt
                yield event._replace(text="law ")

        monkeypatch.setattr(Engine, "stream", interrupted)
        at_terminal(["the land", f"/save {tmp_path}/kept.jsonl"])
        command.main([str(folder), "--max-tokens", "60", "--temperature", "1"])
        captured = capsys.readouterr()
        assert "stopped" in captured.err
        (found,) = read_conversations([tmp_path / "kept.jsonl"])
        assert found.value.messages[-1] == Message("assistant", "law law law law law law")

    def test_one_message_is_answered_and_json_says_what_it_took(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command.main([str(folder), "--message", "the land", "--max-tokens", "5", "--temperature", "0"])
        text = capsys.readouterr().out
        command.main([str(folder), "--message", "the land", "--max-tokens", "5", "--temperature", "0", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert found["answer"] + "\n" == text
        assert found["finish"] in ("stop", "length")

    def test_a_pipe_is_one_message(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("the\nland\n"))
        command.main([str(folder), "--max-tokens", "3", "--json"])
        assert json.loads(capsys.readouterr().out)["message"] == "the\nland\n"


def test_what_a_model_writes_cannot_act_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "a\x1b[31m\r\n\tb\x9b é\u200d"
    assert command.shown(said) == said  # no terminal here
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert command.shown(said) == "a\\x1b[31m\\x0d\n\tb\\x9b é\u200d"


class TestTheMark:
    def test_a_model_without_a_template_is_warned_of_once(
        self, tokenizer: Tokenizer, model: Llama, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        export_ours(Held(model), tmp_path / "base", beside={"tokenizer.json": tokenizer.to_bytes()})
        command.main([str(tmp_path / "base"), "--message", "law", "--max-tokens", "2"])
        assert capsys.readouterr().err.count("was not trained to answer") == 1

    def test_export_and_import_keep_it(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        export_command.main([str(folder), "--out", str(tmp_path / "hf"), "--json"])
        assert json.loads(capsys.readouterr().out)["chat"]
        assert (tmp_path / "hf" / FILE).read_text() == TEMPLATE
        eos = json.loads((tmp_path / "hf" / "generation_config.json").read_text())["eos_token_id"]
        assert len(eos) == 2
        Import.open(tmp_path / "hf").write(tmp_path / "back")
        assert answers(tmp_path / "back")

    def test_it_can_be_left_out(self, folder: Path, tmp_path: Path) -> None:
        export_command.main([str(folder), "--out", str(tmp_path / "hf"), "--chat", "no"])
        assert not answers(tmp_path / "hf")
        Import.open(tmp_path / "hf").write(tmp_path / "back")
        assert not answers(tmp_path / "back")
