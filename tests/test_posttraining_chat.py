"""What people write is text in every role, and the template says the same ids and the same mask as we do."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.posttraining.chat import TRAINED, Chat, Kind
from isoflop.posttraining.conversation import ROLES, Message, Role
from isoflop.tokens import Tokenizer, train_tokenizer
from isoflop.tokens.chat_template import FILE, TEMPLATE, TOKENS, answers, without_marks
from isoflop.tokens.gguf import vocabulary
from isoflop.tokens.hub import hub_files
from isoflop.tokens.specials import SPECIAL_TOKENS
from isoflop.tokens.train import KINDS

WORDS = ["law", "compute", "token", "model", "žluť", "user", "assistant", "12", "机器", "ipython", "system", "say"]
PARTS = ["ka", "lo", "mi", "ter", "un", "se", "ra", "ble", "in", "do", "pro", "ži"]
SPOKEN = [PARTS[i % 12] + PARTS[i * 7 % 11] + PARTS[i * i % 9] for i in range(500)] + WORDS
TEXTS = ["\n\n\t" * (i % 3) + " ".join(SPOKEN[i * j % 512] for j in range(40)) + "?!\n" for i in range(60)]

words = st.sampled_from([*SPECIAL_TOKENS, *WORDS, "<|", "|>", "\n\n", " ", "\t", "\x1c", "\u3000", "é", "🦙"])
said = st.lists(words | st.text(max_size=8), max_size=6).map("".join)
messages = st.lists(st.builds(Message, st.sampled_from(ROLES), said), min_size=1, max_size=5)


@functools.cache
def tokenizer(kind: str = "bpe") -> Tokenizer:
    if kind != "bpe":
        pytest.importorskip("sentencepiece")
    return train_tokenizer(TEXTS, 360, kind=kind)


def taken_apart(chat: Chat, ids: list[int]) -> list[tuple[str, str]]:
    """The (header, content) pairs that ids spell, by control tokens alone."""
    assert ids[0] == chat.tokenizer.bos
    found, at = [], 1
    while at < len(ids):
        assert ids[at] == chat.begin_header
        middle, end = ids.index(chat.end_header, at), ids.index(chat.end, at)
        body = chat.tokenizer.decode(ids[middle + 1 : end])
        assert body.startswith("\n\n")
        found.append((chat.tokenizer.decode(ids[at + 1 : middle]), body[2:]))
        at = end + 1
    return found


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKindOfTokenizer:
    @settings(max_examples=60, deadline=None)
    @given(said=messages)
    def test_text_that_spells_control_stays_text_in_every_role(self, kind: str, said: list[Message]) -> None:
        chat = Chat(tokenizer(kind))
        encoded = chat.encode(said)
        names = {"tool": "ipython"}
        wanted = [(names.get(message.role, message.role), message.content.strip()) for message in said]
        assert taken_apart(chat, encoded.ids) == wanted
        assert len(encoded.ids) == len(encoded.kinds)

    @settings(max_examples=60, deadline=None)
    @given(said=messages)
    def test_what_is_trained_on_is_what_the_assistant_says_and_its_end(self, kind: str, said: list[Message]) -> None:
        chat = Chat(tokenizer(kind))
        own = [message.content for message in said if message.role == "assistant"]
        found = [i for i, k in zip(*chat.encode(said), strict=True) if k in TRAINED]
        assert found == [i for text in own for i in [*chat.content(text), chat.end]]


def test_a_prompt_and_an_answer_are_the_conversation() -> None:
    chat = Chat(tokenizer())
    asked = [Message("system", "law"), Message("user", "model?")]
    whole = chat.encode([*asked, Message("assistant", " 12 ")])
    assert chat.prompt(asked) + chat.answer(" 12 ").ids == whole.ids
    assert whole.kinds[-2:] == [Kind.ANSWER, Kind.END]
    assert whole.kinds.count(Kind.HEADER) == len(chat.header("assistant"))


def test_an_answer_that_is_not_to_be_learned_is_given_as_it_stands() -> None:
    chat = Chat(tokenizer())
    talk = [Message("user", "say"), Message("assistant", "law"), Message("user", "12"), Message("assistant", "model")]
    whole = chat.encode(talk)
    partly = chat.encode([talk[0], Message("assistant", "law", learned=False), *talk[2:]])
    last = len(chat.header("assistant")) + len(chat.answer("model").ids)
    assert partly.ids == whole.ids
    assert partly.kinds[-last:] == whole.kinds[-last:]
    assert set(partly.kinds[:-last]) == {Kind.GIVEN}


def test_a_tokenizer_without_the_tokens_is_refused_with_what_to_do() -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer()._backend.to_str())
    bare = tokenizers.Tokenizer(backend.model)
    bare.add_special_tokens(["<s>", "</s>", "<|eot_id|>"])
    with pytest.raises(ValueError, match=r"<\|start_header_id\|>.*`isoflop prepare`"):
        Chat(Tokenizer(bare))


class TestFit:
    chat = functools.cached_property(lambda self: Chat(tokenizer()))
    talk = (
        Message("system", "say law"),
        *(Message(cast(Role, role), f"{role} {i} 12 12") for i in range(4) for role in ("user", "assistant")),
        Message("user", "model?"),
    )

    def test_what_fits_is_whole(self) -> None:
        ids = self.chat.prompt(self.talk)
        assert self.chat.fit(self.talk, len(ids)) == (ids, 0)

    def test_whole_earliest_exchanges_are_left_out_and_the_system_is_kept(self) -> None:
        whole = len(self.chat.prompt(self.talk))
        for most in range(len(self.chat.prompt([self.talk[0], self.talk[-1]])), whole):
            ids, left_out = self.chat.fit(self.talk, most)
            assert len(ids) <= most
            assert left_out % 2 == 0
            assert ids == self.chat.prompt([self.talk[0], *self.talk[1 + left_out :]])
            if left_out > 2:  # one exchange more would not have fitted
                assert len(self.chat.prompt([self.talk[0], *self.talk[left_out - 1 :]])) > most

    def test_an_exchange_with_tools_goes_as_a_whole(self) -> None:
        talk = [Message("user", "a"), Message("assistant", "call"), Message("tool", "12"), Message("assistant", "b")]
        talk.append(Message("user", "law"))
        assert self.chat.fit(talk, len(self.chat.prompt(talk)) - 1).left_out == 4

    def test_a_last_message_that_is_too_long_is_an_error_that_says_by_how_much(self) -> None:
        with pytest.raises(ValueError, match=r"takes \d+ tokens and there is room for 20"):
            self.chat.fit([Message("user", "law " * 200)], 20)


clean = said.map(lambda text: functools.reduce(lambda left, name: left.replace(name, ""), SPECIAL_TOKENS, text))
clean_messages = st.lists(
    st.builds(Message, st.sampled_from(ROLES), clean.filter(lambda text: not any(s in text for s in SPECIAL_TOKENS))),
    min_size=1,
    max_size=5,
)


@functools.cache
def exported(kind: str, folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    folder = folder / kind
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    for name, data in hub_files(tokenizer(kind), 128, chat=True).items():
        (folder / name).write_bytes(data)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.mark.parametrize("kind", KINDS)
class TestTemplate:
    @settings(max_examples=100, deadline=None)
    @given(said=clean_messages)
    def test_transformers_gives_the_same_ids_and_the_same_mask(
        self, kind: str, folder: Path, said: list[Message]
    ) -> None:
        theirs, chat = exported(kind, folder), Chat(tokenizer(kind))
        given = [{"role": message.role, "content": message.content} for message in said]
        found = theirs.apply_chat_template(given, return_dict=True, return_assistant_tokens_mask=True)
        encoded = chat.encode(said)
        assert found["input_ids"] == encoded.ids
        assert found["assistant_masks"] == [int(k in TRAINED) for k in encoded.kinds]
        assert theirs.apply_chat_template(given, add_generation_prompt=True) == chat.prompt(said)

    def test_unknown_roles_and_contents_that_are_no_text_are_refused(self, kind: str, folder: Path) -> None:
        with pytest.raises(Exception, match="there is no role narrator"):
            exported(kind, folder).apply_chat_template([{"role": "narrator", "content": ""}])
        with pytest.raises(Exception, match="must be text"):
            exported(kind, folder).apply_chat_template([{"role": "user", "content": None}])


def test_what_fills_up_is_never_the_end_and_generation_stops_where_an_answer_ends(tmp_path: Path) -> None:
    theirs = exported("bpe", tmp_path)
    transformers = pytest.importorskip("transformers")
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "bpe")
    assert theirs.pad_token == "<|finetune_right_pad_id|>"
    assert generation.pad_token_id == theirs.pad_token_id
    assert generation.eos_token_id == [tokenizer().eos, tokenizer().special("<|eot_id|>")]
    assert theirs.pad_token_id not in generation.eos_token_id


def test_a_template_lies_beside_models_that_answer_alone(tmp_path: Path) -> None:
    base = hub_files(tokenizer(), 128)
    assert FILE not in base
    assert b"chat_template" not in base["tokenizer_config.json"]
    for name, data in base.items():
        (tmp_path / name).write_bytes(data)
    assert not answers(tmp_path)
    (tmp_path / FILE).write_text(TEMPLATE)
    assert answers(tmp_path)
    (tmp_path / FILE).write_text("{{ '[INST]' }}")
    assert not answers(tmp_path)


def test_a_gguf_file_has_the_template_in_plain_jinja_that_writes_the_same() -> None:
    jinja2 = pytest.importorskip("jinja2")
    found = vocabulary(tokenizer(), 360, chat=True)
    assert found["tokenizer.chat_template"] == without_marks()
    assert found["tokenizer.ggml.eot_token_id"] == tokenizer().special("<|eot_id|>")
    assert found["tokenizer.ggml.padding_token_id"] == tokenizer().special("<|finetune_right_pad_id|>")
    talk = [{"role": "user", "content": " hi "}, {"role": "assistant", "content": " law "}]
    begin, end = "<|start_header_id|>", "<|end_header_id|>\n\n"
    text = jinja2.Template(without_marks()).render(messages=talk, bos_token="B", add_generation_prompt=True)
    assert text == f"B{begin}user{end}hi<|eot_id|>{begin}assistant{end}law<|eot_id|>{begin}assistant{end}"
    assert "tokenizer.chat_template" not in vocabulary(tokenizer(), 360)
    assert all(token in without_marks() for token in TOKENS)
