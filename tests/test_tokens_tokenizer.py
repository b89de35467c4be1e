import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens import Tokenizer, engines, train_tokenizer, words
from isoflop.tokens.specials import SPECIAL_TOKENS

SENTENCE = "the quick brown fox jumps over a lazy dog while 1234567890 numbers 2024 2024 2024 go by"
WORDS = SENTENCE.split()
TEXTS = [
    " ".join(WORDS[(i * j) % len(WORDS)] for j in range(60)) + "\n    return x['key'] == \"it's\"\n\n"
    for i in range(40)
] + ["<|end_of_text|> <|begin_of_text|> " * 50, "žluťoučký kůň úpěl ďábelské ódy " * 20]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 380)


def test_the_vocabulary_has_exactly_the_size_asked_with_the_specials_on_top(tokenizer):
    assert tokenizer.vocab_size == 380
    assert (tokenizer.bos, tokenizer.eos) == (364, 365)
    assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == list(range(364, 380))
    # Llama 3 has these at the same distance from its first special token.
    assert tokenizer.special("<|start_header_id|>") - tokenizer.bos == 128006 - 128000
    assert tokenizer.special("<|eot_id|>") - tokenizer.bos == 128009 - 128000


@given(st.text())
def test_any_text_survives_the_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())


def test_all_bytes_are_tokens(tokenizer):
    assert np.count_nonzero(tokenizer.byte_lengths == 1) == 256


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "a", "<|", "|>", "\n"])).map("".join))
def test_special_tokens_never_come_from_text(tokenizer, text):
    first_special = tokenizer.bos
    for ids in (tokenizer.encode(text), tokenizer.encode_batch(["x", text])[1]):
        assert all(number < first_special for number in ids)
        assert tokenizer.decode(ids) == text


def test_special_tokens_never_come_from_text_after_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    text = "a<|end_of_text|>b<|eot_id|>"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert max(loaded.encode(text)) < loaded.bos
    assert loaded.checksum == tokenizer.checksum
    assert (loaded.vocab_size, loaded.bos, loaded.eos) == (380, 364, 365)


def test_decoding_shows_no_special_tokens(tokenizer):
    assert tokenizer.decode([tokenizer.bos, *tokenizer.encode("hello"), tokenizer.eos]) == "hello"


@given(st.text(alphabet="0123456789 ٣४.-a"))
def test_no_token_holds_a_digit_and_anything_else(tokenizer, text):
    pieces = [tokenizer.decode([number]) for number in tokenizer.encode(text)]
    assert all(len(piece) == 1 for piece in pieces if any(c in "0123456789" for c in piece))


def test_no_merge_of_the_vocabulary_crosses_digits(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert [token for token in vocabulary if len(token) > 1 and set(token) & set("0123456789")] == []
    assert any(len(token) > 4 for token in vocabulary)


@given(st.text(alphabet=st.sampled_from("ab é\u0301²½7_'sS\n\r\t\x1c\u2028\u00a0.世")), st.integers(1, 5))
def test_texts_are_only_cut_where_no_word_crosses(tokenizer, text, piece):
    def split(text):
        return [word for word, _ in tokenizer._backend.pre_tokenizer.pre_tokenize_str(text)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_PIECE", piece)
        patch.setattr(engines, "_GROUP", 3)
        pieces = list(words.pieces(text, piece))
        assert tokenizer.encode(text) == tokenizer._backend.encode(text, add_special_tokens=False).ids
    assert [word for piece in pieces for word in split(piece)] == split(text)


def test_long_texts_are_cut(tokenizer):
    pieces = list(words.pieces("".join(TEXTS), 8192))
    assert "".join(pieces) == "".join(TEXTS)
    assert len(pieces) > 1
    assert max(map(len, pieces)) < 2 * 8192


def test_half_a_surrogate_pair_is_a_value_error(tokenizer):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        tokenizer.encode("a\ud800")


def test_training_gives_the_same_tokenizer_in_another_process(tokenizer):
    program = f"from isoflop.tokens import train_tokenizer; print(train_tokenizer({TEXTS!r}, 380).checksum)"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == tokenizer.checksum


def test_training_reads_no_more_than_the_sample(tokenizer):
    def texts():
        yield from TEXTS
        yield "é" * 100
        raise AssertionError("read on")

    size = sum(len(text.encode()) for text in TEXTS)
    assert train_tokenizer(texts(), 380, size).checksum == tokenizer.checksum
    train_tokenizer(texts(), 380, size + 101)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["too small"], 5000), "too small for a vocabulary of 5000: it gives 2"),
        ((TEXTS, 272), "at least 273"),
        ((TEXTS, 380, 2**31), "32-bit"),
    ],
)
def test_what_cannot_be_trained_says_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(*arguments)


def test_a_file_that_is_no_tokenizer_says_so(tmp_path, tokenizer):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match="cannot read the tokenizer"):
        Tokenizer.load(path)
    for text in (
        "{",
        "{}",
        json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"not a usable tokenizer\.json"):
            Tokenizer.load(path)
    with pytest.raises(ValueError, match=r"no special token <\|nonsense\|>"):
        tokenizer.special("<|nonsense|>")


def test_a_tokenizer_that_lacks_a_byte_is_refused(tokenizer, tmp_path):
    description = json.loads(tokenizer._backend.to_str())
    for spelled in "Ðî":  # as byte-level tokenizers spell 0xD0 and 0xEE
        kept = [token for token in description["model"]["vocab"] if len(token) == 1 and token != spelled]
        model = {**description["model"], "vocab": {token: i for i, token in enumerate(kept)}, "merges": []}
        added = [{**token, "id": len(kept) + i} for i, token in enumerate(description["added_tokens"])]
        (tmp_path / "other.json").write_text(json.dumps({**description, "model": model, "added_tokens": added}))
        with pytest.raises(ValueError, match="does not keep texts as they are"):
            Tokenizer.load(tmp_path / "other.json")


def test_transformers_reads_the_saved_file_to_the_same_ids(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in TEXTS[:3]:
        assert theirs.encode(text) == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs.convert_tokens_to_ids("<|eot_id|>") == tokenizer.special("<|eot_id|>")
