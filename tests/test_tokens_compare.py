import json

import numpy as np
import pytest
import tokenizers as hf

from isoflop.cli import dispatch
from isoflop.corpus import CorpusError, Document
from isoflop.tokens import Tokenizer, train_tokenizer
from isoflop.tokens.compare import OTHERS, compare, digits_alone
from isoflop.tokens.specials import BOS, EOS
from isoflop.tokens.train import KINDS

ENGLISH = "the cat sat on the mat and the dog sat on the cat 1987\n" * 30
CZECH = "příliš žluťoučký kůň úpěl ďábelské ódy\n" * 30
DOCUMENTS = [
    Document(ENGLISH, "web/a.jsonl:1", source="web", language="en"),
    Document(CZECH, "web/b.jsonl:1", language="cs", extra={"domain": "poems"}),
    Document(ENGLISH, "web/a.jsonl:2", source="web", language="en"),
]


@pytest.fixture(scope="module")
def tokenizers():
    return {"small": train_tokenizer([ENGLISH], 280), "large": train_tokenizer([ENGLISH, CZECH], 320)}


def test_counts_are_those_of_encoding_each_text(tokenizers):
    found = compare(tokenizers, DOCUMENTS)
    assert list(found.texts) == ["all", "web", "web/b.jsonl"]
    for name, tokenizer in tokenizers.items():
        english, czech = tokenizer.encode(ENGLISH), tokenizer.encode(CZECH)
        assert found.bytes_per_token(name, "web") == len(ENGLISH) / len(english)
        assert found.bytes_per_token(name, "web/b.jsonl") == len(CZECH.encode()) / len(czech)
        assert found.counts[name].tokens["all"] == 2 * len(english) + len(czech)
        assert found.fertility(name, "web") == len(english) / len(ENGLISH.split())
        uses = np.bincount([*english, *english, *czech], minlength=tokenizer.vocab_size)
        assert np.array_equal(found.counts[name].uses, uses)
        assert found.counts[name].unused == 1 - len({*english, *czech}) / (tokenizer.vocab_size - 16)
        assert 0 < found.counts[name].entropy < np.log2(tokenizer.vocab_size)
    assert found.bytes_per_token("large") > found.bytes_per_token("small")


def test_groups_are_whatever_the_records_say(tokenizers):
    assert list(compare(tokenizers, DOCUMENTS, "language").texts) == ["all", "en", "cs"]
    assert list(compare(tokenizers, DOCUMENTS, "domain").texts) == ["all", "unstated", "poems"]


def test_no_group_counts_for_more_than_its_share(tokenizers):
    found = compare(tokenizers, DOCUMENTS, "language", 100)
    assert found.texts["en"].text_bytes == 100
    assert 98 <= found.texts["cs"].text_bytes <= 100  # a cut through a character drops it
    assert found.texts["all"].documents == 2


def test_sources_that_each_record_names_are_told_together(tokenizers):
    many = [Document(ENGLISH[: 55 + number], "a:1", source=f"page {number}") for number in range(40)]
    found = compare(tokenizers, [*DOCUMENTS, *many], groups=3)
    assert list(found.texts) == ["all", "web", "web/b.jsonl", "page 39", OTHERS]
    apart = compare(tokenizers, [*DOCUMENTS, *many], groups=100)
    assert OTHERS not in apart.texts
    rest = [f"page {number}" for number in range(39)]
    assert found.texts[OTHERS].text_bytes == sum(apart.texts[group].text_bytes for group in rest)
    assert found.texts[OTHERS].documents == 39
    for name in tokenizers:
        tokens = sum(apart.counts[name].tokens[group] for group in rest)
        assert found.bytes_per_token(name, OTHERS) == found.texts[OTHERS].text_bytes / tokens
        assert found.counts[name].tokens["all"] == apart.counts[name].tokens["all"]


def test_a_corpus_without_text_is_an_error(tokenizers):
    with pytest.raises(CorpusError, match="no text"):
        compare(tokenizers, [])


def test_merged_digits_are_found(tokenizers):
    assert digits_alone(tokenizers["small"])
    backend = hf.Tokenizer(hf.models.BPE())
    backend.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = hf.decoders.ByteLevel()
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(vocab_size=262, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["2024 1000 " * 9], trainer)
    backend.add_special_tokens([BOS, EOS])
    assert not digits_alone(Tokenizer(backend))


def test_the_command_trains_and_compares(tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    firsts, seconds, ends = (
        ("ba", "ko", "tu", "mer", "sol", "ri"),
        ("lan", "sig", "vot", "dak", "pem"),
        ("", "ing", "est", "ul"),
    )
    made = " ".join(a + b + c for a in firsts for b in seconds for c in ends) + "\n"
    text = ENGLISH + CZECH + made * 9
    corpus.write_text(text)
    for kind in KINDS:
        arguments = [
            "--corpus",
            str(corpus),
            "--vocab-size",
            "300",
            "--kind",
            kind,
            "--out",
            str(tmp_path / f"{kind}.json"),
        ]
        assert dispatch(["tokenizers", "train", *arguments]) == 0
    files = [str(tmp_path / f"{kind}.json") for kind in KINDS]
    capsys.readouterr()
    assert dispatch(["tokenizers", "compare", *files, "--corpus", str(corpus), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"]["all"]["text_bytes"] == len(text.encode())
    one, two, three = (found["tokenizers"][file] for file in files)
    assert (one["kind"], two["kind"], three["kind"]) == KINDS
    assert one["embedding_params"] == two["embedding_params"] > 0
    assert one["flops_per_byte"] * one["bytes_per_token"]["all"] == pytest.approx(
        two["flops_per_byte"] * two["bytes_per_token"]["all"]
    )
    assert dispatch(["tokenizers", "compare", *files, "--corpus", str(corpus)]) == 0
    told = capsys.readouterr().out
    assert "bytes per token by source" in told
    assert all(f"{file}\t{kind}\t300" in told for file, kind in zip(files, KINDS, strict=True))
    assert dispatch(["tokenizers", "compare", str(tmp_path / "none.json"), "--corpus", str(corpus)]) == 1
    assert "cannot read the tokenizer" in capsys.readouterr().err


def test_what_the_command_cannot_do_is_one_sentence(tmp_path, capsys):
    corpus, made = tmp_path / "corpus.txt", tmp_path / "new" / "tokenizer.json"
    corpus.write_text(ENGLISH + CZECH)
    assert dispatch(["tokenizers", "train", "--corpus", str(corpus), "--vocab-size", "300", "--out", str(made)]) == 0
    for arguments, said in (
        (["train", "--vocab-size", "300", "--out", str(tmp_path)], "is a folder: give the file to write"),
        (["compare"], "which tokenizers?"),
        (["compare", str(made), "--params", "-3"], "--params is -3: it must be above 0"),
    ):
        assert dispatch(["tokenizers", *arguments, "--corpus", str(corpus)]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
