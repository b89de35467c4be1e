"""Tokenizers that go out give the same ids to transformers and llama.cpp; those that come in keep our promises."""

from __future__ import annotations

import io
import json
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from isoflop.tokens import Tokenizer, train_tokenizer
from isoflop.tokens.gguf import LLAMA_3_WORDS, vocabulary
from isoflop.tokens.hub import hub_files
from isoflop.tokens.probes import PROBES
from isoflop.tokens.train import KINDS

sentencepiece = pytest.importorskip("sentencepiece")

TEXT = "the quick brown fox jumps over the lazy dog; 1234567890 numbers. žluťoučký kot\n    if x == 'y':\n"
PARTS = ["ka", "lo", "mi", "ter", "un", "se", "ra", "ble", "in", "do", "pro", "ži"]
WORDS = [PARTS[i % 12] + PARTS[i * 7 % 11] + PARTS[i * i % 9] for i in range(500)]
TEXTS = [TEXT[i % 40 :] + " ".join(WORDS[i * j % 500] for j in range(40)) for i in range(60)]


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(TEXTS, 360, kind=kind) for kind in KINDS}


def saved(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_auto_tokenizer_gives_the_same_ids_and_texts(kind: str, trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = trained[kind]
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs = transformers.AutoTokenizer.from_pretrained(saved(tmp_path, hub_files(ours, 128)))
    assert (theirs.bos_token_id, theirs.eos_token_id, len(theirs)) == (ours.bos, ours.eos, 360)
    assert theirs.model_max_length == 128
    for text in (*PROBES, *TEXTS[:5]):
        assert theirs.encode(text, add_special_tokens=False, split_special_tokens=True) == ours.encode(text)
        assert theirs.encode(text, split_special_tokens=True) == [ours.bos, *ours.encode(text)]
        assert theirs.decode(ours.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs("a", "b")["input_ids"] == [ours.bos, *ours.encode("a"), ours.bos, *ours.encode("b")]
    generation = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (generation.bos_token_id, generation.eos_token_id) == (ours.bos, ours.eos)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_tokenizer_comes_back_with_the_same_ids(
    kind: str, trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    back = Tokenizer.load(saved(tmp_path, hub_files(trained[kind], 128)))
    assert [back.encode(text) for text in PROBES] == [trained[kind].encode(text) for text in PROBES]


class TestGGUF:
    def test_bytes_become_gpt2_with_the_words_that_llama_cpp_knows(self, trained: dict[str, Tokenizer]) -> None:
        ours, found = trained["bpe"], vocabulary(trained["bpe"], 363)
        assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "qwen35")
        tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
        assert tokens[found["tokenizer.ggml.bos_token_id"]] == "<|begin_of_text|>"
        assert (types[ours.bos], types[ours.bos - 1], types[360:]) == (3, 1, [5, 5, 5])
        pairs = [tuple(merge.split(" ")) for merge in found["tokenizer.ggml.merges"]]
        again = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
        again.pre_tokenizer = ours._backend.pre_tokenizer
        assert [again.encode(text).ids for text in TEXTS] == [ours.encode(text) for text in TEXTS]

    def test_llama_3s_words_have_their_name(self, trained: dict[str, Tokenizer]) -> None:
        backend = tokenizers.Tokenizer.from_str(trained["bpe"]._backend.to_str())
        split = pre_tokenizers.Split(tokenizers.Regex(LLAMA_3_WORDS), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        assert vocabulary(Tokenizer(backend), 360)["tokenizer.ggml.pre"] == "llama-bpe"
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        with pytest.raises(ValueError, match="no name for the way in which this tokenizer splits words"):
            vocabulary(Tokenizer(backend), 360)

    def test_characters_become_llama_merged_by_score(self, trained: dict[str, Tokenizer]) -> None:
        """The merge of the best score first, as llama.cpp does it, gives our ids."""
        ours, found = trained["sentencepiece-bpe"], vocabulary(trained["sentencepiece-bpe"], 360)
        assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.add_space_prefix"]) == ("llama", False)
        tokens, scores = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.scores"]
        assert found["tokenizer.ggml.token_type"] == [6] * 256 + [1] * (ours.bos - 256) + [3] * 16
        ids = {token: number for number, token in enumerate(tokens)}
        for text in TEXTS[:10]:
            parts = list(text.replace(" ", "▁"))
            while joins := [(scores[ids[a + b]], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ids]:
                at = -max(joins)[1]
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            spelled = [[ids[p]] if p in ids else [ids[f"<0x{byte:02X}>"] for byte in p.encode()] for p in parts]
            assert list(chain(*spelled)) == ours.encode(text)

    def test_unigram_is_refused(self, trained: dict[str, Tokenizer]) -> None:
        with pytest.raises(ValueError, match="no tokenizer of the kind unigram; export with --format hf"):
            vocabulary(trained["unigram"], 360)


@pytest.fixture(scope="module")
def llama_2() -> tokenizers.Tokenizer:
    """A small tokenizer as Llama 2's file has it: sentencepiece's ids, ▁ for a space and one before every text."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=360,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    found = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = {found.id_to_piece(i): i for i in range(360)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in list(ids)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    # Merges that spell a control token, as some converters make them.
    ids |= {"<s": 360, "<": ids.get("<", 361)}
    merges += [("<", "s"), ("<s", ">")]
    ids.setdefault(">", 362)
    ids.setdefault("s", 363)
    backend = tokenizers.Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return backend


@pytest.fixture(scope="module")
def loaded(llama_2: tokenizers.Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("llama-2")
    (folder / "tokenizer.json").write_text(llama_2.to_str())
    return Tokenizer.load(folder)


class TestLlama2:
    def test_ids_are_its_own_but_for_the_space_before_a_text(
        self, llama_2: tokenizers.Tokenizer, loaded: Tokenizer
    ) -> None:
        assert (loaded.kind, loaded.bos, loaded.eos) == ("sentencepiece-bpe", 1, 2)
        for text in TEXTS:
            space, newline, *rest = llama_2.encode("\n" + text, add_special_tokens=False).ids
            assert loaded.encode("\n" + text) == [newline, *rest]
            assert loaded.decode([space]) == " "

    @given(
        text=st.text() | st.lists(st.sampled_from(["<s>", "</s>", "▁", " ", "<0x0A>", "<unk>", "a", "\n"])).map("".join)
    )
    def test_any_text_survives_and_none_becomes_control(self, loaded: Tokenizer, text: str) -> None:
        ids = loaded.encode(text)
        assert loaded.decode(ids) == text
        assert loaded.byte_lengths[ids].sum() == len(text.encode())
        assert not {0, 1, 2} & set(ids)

    def test_the_newer_recipe_of_the_same_is_the_same(
        self, llama_2: tokenizers.Tokenizer, loaded: Tokenizer, tmp_path: Path
    ) -> None:
        words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
        newer = json.loads(llama_2.to_str()) | {"normalizer": None, "pre_tokenizer": words}
        (tmp_path / "tokenizer.json").write_text(json.dumps(newer))
        assert Tokenizer.load(tmp_path).checksum == loaded.checksum

    def test_a_vocabulary_with_both_spellings_is_refused(self, llama_2: tokenizers.Tokenizer, tmp_path: Path) -> None:
        description: dict[str, Any] = json.loads(llama_2.to_str())
        description["model"]["vocab"][" "] = 400
        (tmp_path / "tokenizer.json").write_text(json.dumps(description))
        with pytest.raises(ValueError, match="pieces with a space and the same with ▁"):
            Tokenizer.load(tmp_path)


def test_llama_3s_words_over_bytes_are_taken_as_they_are(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    description: dict[str, Any] = json.loads(trained["bpe"]._backend.to_str())
    description["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": LLAMA_3_WORDS}
    description["model"]["ignore_merges"] = True
    template = {"id": "<|begin_of_text|>", "ids": [344], "tokens": ["<|begin_of_text|>"]}
    description["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin_of_text|>": template},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    original, ours = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")), Tokenizer.load(tmp_path)
    for text in TEXTS:
        assert original.encode(text).ids == [ours.bos, *ours.encode(text)]
    assert all(number < ours.bos for number in ours.encode("<|begin_of_text|>"))
