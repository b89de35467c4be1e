import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens import Tokenizer, engines, sentencepiece_bpe, train_tokenizer, unigram
from isoflop.tokens import tokenizer as module
from isoflop.tokens.probes import PROBES
from isoflop.tokens.specials import SPECIAL_TOKENS
from isoflop.tokens.train import KINDS

pytest.importorskip("sentencepiece")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "corpus"
BASE = "the quick brown fox jumps over the lazy dog; 1234567890 numbers. 机器学习 žluťoučký кот\n    if x == 'y':\n"
SYLLABLES = ["ka", "lo", "mi", "ter", "un", "se", "ra", "ble", "in", "do", "pro", "ži"]
WORDS = [SYLLABLES[i % 12] + SYLLABLES[i * 7 % 11] + SYLLABLES[i * i % 9] for i in range(2000)] + BASE.split()
TEXTS = [" ".join(WORDS[i * j % len(WORDS)] for j in range(40)) + "\n\t" + BASE[i % 40 :] for i in range(120)] + [
    "<|end_of_text|> <0x0A> <|eot_id|> " * 20
]
SPELLED = [*SPECIAL_TOKENS, "<0x0A>", "<0xFF>", "<unk>", "</s>", "▁", "Ġ", " ", "  ", "a", "<|", "|>", "\n", "\r", "1"]


@pytest.fixture(scope="module")
def trained():
    return {kind: train_tokenizer(TEXTS, 400, kind=kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_the_vocabulary_has_exactly_the_size_asked_with_the_specials_on_top(self, trained, kind):
        tokenizer = trained[kind]
        assert (tokenizer.kind, tokenizer.vocab_size) == (kind, 400)
        assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == list(range(384, 400))

    @given(text=st.text())
    def test_any_text_survives_the_round_trip(self, trained, kind, text):
        ids = trained[kind].encode(text)
        assert trained[kind].decode(ids) == text
        assert trained[kind].byte_lengths[ids].sum() == len(text.encode())

    @pytest.mark.parametrize("text", PROBES)
    def test_hard_texts_survive_the_round_trip(self, trained, kind, text):
        ids = trained[kind].encode(text)
        assert trained[kind].decode(ids) == text
        assert trained[kind].byte_lengths[ids].sum() == len(text.encode())

    def test_every_byte_is_a_token(self, trained, kind):
        tokenizer = trained[kind]
        found = set()
        for number in np.flatnonzero(tokenizer.byte_lengths == 1).tolist():
            text = tokenizer.decode([number])
            found.add(text if text != "\ufffd" else number)
        # 128 characters of one byte, and 128 bytes that are no text alone.
        assert {chr(byte) for byte in range(128)} <= found
        assert sum(isinstance(entry, int) for entry in found) == 128

    @given(text=st.lists(st.sampled_from(SPELLED)).map("".join))
    def test_text_never_becomes_control(self, trained, kind, text):
        ids = trained[kind].encode(text)
        assert all(number < trained[kind].bos for number in ids)
        assert trained[kind].decode(ids) == text

    def test_digits_stand_alone(self, trained, kind):
        ids = trained[kind].encode("year 2024, x123456 and 7x")
        parts = [trained[kind].decode([number]) for number in ids]
        assert all(len(part.strip()) == 1 for part in parts if set(part) & set("0123456789"))

    def test_a_saved_tokenizer_is_the_same(self, trained, kind, tmp_path):
        trained[kind].save(tmp_path / "tokenizer.json")
        loaded = Tokenizer.load(tmp_path / "tokenizer.json")
        assert loaded.checksum == trained[kind].checksum
        assert [loaded.encode(text) for text in TEXTS] == [trained[kind].encode(text) for text in TEXTS]
        assert loaded.bos == trained[kind].bos

    def test_transformers_reads_the_same_ids(self, trained, kind, tmp_path):
        transformers = pytest.importorskip("transformers")
        trained[kind].save(tmp_path / "tokenizer.json")
        theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
        for text in TEXTS[:5]:
            assert theirs.encode(text) == trained[kind].encode(text)
            assert theirs.decode(trained[kind].encode(text), clean_up_tokenization_spaces=False) == text

    def test_long_texts_are_cut_without_changing_an_id(self, trained, kind):
        text = "".join(TEXTS) * 2
        whole = trained[kind]._backend.encode(text, add_special_tokens=False).ids
        assert len(text) > 2 * engines._PIECE
        assert trained[kind].encode(text) == whole

    def test_too_little_text_is_a_sentence(self, trained, kind):
        with pytest.raises(ValueError, match="too small for a vocabulary|cannot make a vocabulary"):
            train_tokenizer(["too small"], 5000, kind=kind)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_training_gives_the_same_tokenizer_in_another_process(trained, kind):
    program = f"from isoflop.tokens import train_tokenizer as t; print(t({TEXTS!r}, 400, kind={kind!r}).checksum)"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == trained[kind].checksum


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="tokenizer_kind is 'bep': it must be one of bpe, sentencepiece-bpe, unigram"):
        train_tokenizer(TEXTS, 400, kind="bep")


def real_texts():
    from isoflop.corpus import documents

    files = ("sample-general", "sample-math", "sample-multilingual")
    found = (d for file in files for d in documents(SHARED / "heldout" / f"{file}.jsonl.zst"))
    return [document.text[:4_000] for document in found]


@pytest.mark.skipif(not SHARED.exists(), reason="no shared corpus")
def test_sentencepiece_gives_the_same_ids_on_real_text():
    import sentencepiece

    texts = [text for text in real_texts() if "▁" not in text]
    model = sentencepiece_bpe.train_model(texts, 2000)
    ours = sentencepiece_bpe.convert(model)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in texts:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert [number + 1 for number in ids] == theirs.encode(text)
        assert ours.decode(ids) == theirs.decode([number + 1 for number in ids]) == text


def test_sentencepiece_segments_words_as_the_unigram_kind_does(trained):
    import sentencepiece

    theirs = sentencepiece.SentencePieceProcessor(model_proto=unigram.train_model(TEXTS, 384))
    ours = trained["unigram"]
    for text in TEXTS:
        words = [word for word, _ in ours._backend.pre_tokenizer.pre_tokenize_str(text)]
        assert ours.encode(text) == [number - 1 for word in words for number in theirs.encode(word)]


@pytest.fixture(scope="module")
def proven(trained):
    pytest.importorskip("gigatoken")
    found = {kind: engines.fastest(trained[kind]._library, trained[kind]._backend, []) for kind in KINDS[:2]}
    assert all(engine.name.startswith("gigatoken") for engine in found.values())
    return found


class TestEngines:
    @pytest.mark.skipif(not SHARED.exists(), reason="no shared corpus")
    @pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe"])
    def test_gigatoken_is_chosen_and_gives_the_ids_of_the_library(self, kind, monkeypatch):
        pytest.importorskip("gigatoken")
        monkeypatch.setattr(module, "_LARGE_BATCH", 100_000)
        texts = real_texts()
        tokenizer = train_tokenizer(texts, 1000, kind=kind)
        tokenizer.encode_batch(texts[:2])
        assert tokenizer.engine.startswith("tokenizers")
        fast = tokenizer.encode_batch(texts)
        assert tokenizer.engine.startswith("gigatoken")
        assert all(map(np.array_equal, fast, tokenizer._library.encode(texts)))
        assert tokenizer.encode_batch([]) == []
        assert [ids.tolist() for ids in tokenizer.encode_batch(["", "a", ""])][::2] == [[], []]
        with pytest.raises(ValueError, match="surrogates not allowed"):
            tokenizer.encode("a\ud800")

    @given(text=st.text() | st.lists(st.sampled_from(SPELLED)).map("".join))
    @pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe"])
    def test_gigatoken_and_the_library_agree_on_any_text(self, trained, proven, kind, text):
        assert np.array_equal(proven[kind].encode([text])[0], trained[kind]._library.encode([text])[0])

    def test_an_engine_that_disagrees_on_the_texts_at_hand_is_not_used(self, trained, monkeypatch):
        class Wrong:
            name = "wrong"

            def __init__(self, description):
                self.library = trained["bpe"]._library

            def encode(self, texts):
                return [
                    ids[1:] if "surprise" in text else ids
                    for text, ids in zip(texts, self.library.encode(texts), strict=True)
                ]

        monkeypatch.setattr(engines, "Gigatoken", Wrong)
        arguments = trained["bpe"]._library, trained["bpe"]._backend
        assert engines.fastest(*arguments, ["fine"]).name == "wrong"
        assert engines.fastest(*arguments, ["fine", "surprise"]) is arguments[0]

    def test_a_tokenizer_that_no_engine_can_read_is_encoded_by_the_library(self, trained):
        assert engines.fastest(trained["unigram"]._library, trained["unigram"]._backend, ["x"]).name.startswith("tok")

    def test_an_engine_that_makes_control_out_of_text_is_stopped(self, trained, monkeypatch):
        class Obeys:
            name = "obeys"

            def encode(self, texts):
                return [np.array([384], np.uint32) for _ in texts]

        tokenizer = Tokenizer(trained["bpe"]._backend)
        monkeypatch.setattr(tokenizer, "_fast", Obeys())
        with pytest.raises(ValueError, match="makes a special token out of plain text"):
            tokenizer.encode("<|begin_of_text|>")


def write(path, description):
    path.write_text(json.dumps(description))
    return path


@pytest.fixture
def description(trained):
    return json.loads(trained["bpe"]._backend.to_str())


class TestFilesFromElsewhere:
    def test_one_of_llama_2s_family_has_its_own_begin_and_end(self, tmp_path, description):
        for token in description["added_tokens"]:
            token["content"] = {384: "<s>", 385: "</s>"}.get(token["id"], token["content"])
        tokenizer = Tokenizer.load(write(tmp_path / "t.json", description))
        assert (tokenizer.bos, tokenizer.eos) == (384, 385)

    def test_added_tokens_that_are_not_called_special_are_not_made_from_text_either(self, tmp_path, description):
        description["added_tokens"][-1] |= {"special": False, "content": "<tool>"}
        tokenizer = Tokenizer.load(write(tmp_path / "t.json", description))
        assert max(tokenizer.encode("a <tool> b")) < tokenizer.bos

    def test_one_that_cuts_texts_off_or_fills_them_up_does_not(self, tmp_path, trained):
        backend = tokenizers.Tokenizer.from_str(trained["bpe"]._backend.to_str())
        backend.enable_truncation(3)
        backend.enable_padding(length=50)
        backend.save(str(tmp_path / "t.json"))
        assert Tokenizer.load(tmp_path / "t.json").encode(BASE) == trained["bpe"].encode(BASE)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"normalizer": {"type": "Lowercase"}}, "does not keep texts as they are"),
            ({"normalizer": {"type": "NFKC"}}, "does not keep texts as they are"),
            ({"normalizer": {"type": "Prepend", "prepend": "x"}}, "does not keep texts as they are"),
            ({"added_tokens": []}, "no special token <|begin_of_text|>".replace("|", r"\|")),
            ({"added_tokens": "x"}, r"not a usable tokenizer\.json"),
            ({"added_tokens": [{"id": 1}]}, r"not a usable tokenizer\.json"),
            ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}}, "not a usable"),
            ({"pre_tokenizer": {"type": "Whitespace"}}, "not a usable"),
            ({"model": None}, "not a usable"),
            ({"model": {"type": "BPE", "vocab": {"a": 2**40}, "merges": []}}, "not a usable"),
            ({"decoder": None}, "does not keep texts as they are"),
        ],
    )
    def test_one_that_cannot_be_used_says_why(self, tmp_path, description, change, message):
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(write(tmp_path / "t.json", description | change))

    def test_a_unigram_model_whose_pieces_spell_a_special_token_is_refused(self, tmp_path, trained):
        description = json.loads(trained["unigram"]._backend.to_str())
        description["model"]["vocab"].append(["<|begin_of_text|>", -0.1])
        description["added_tokens"][0]["id"] = 384
        description["pre_tokenizer"] = description["pre_tokenizer"]["pretokenizers"][1]  # the bytes, but no words
        with pytest.raises(ValueError, match="not a usable"):
            Tokenizer.load(write(tmp_path / "t.json", description))

    @given(
        data=st.binary(max_size=200) | st.recursive(st.none() | st.text(max_size=5), st.lists).map(repr).map(str.encode)
    )
    def test_garbage_is_a_value_error(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "garbage.json"
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a usable"):
            Tokenizer.load(path)


def test_small_batches_do_not_pay_for_an_engine(trained):
    trained["bpe"].encode_batch(TEXTS)
    assert sum(map(len, TEXTS)) < module._LARGE_BATCH
    assert trained["bpe"]._fast is None
