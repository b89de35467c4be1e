import errno
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop.cli.prepare import main as command
from isoflop.corpus import CorpusError
from isoflop.files import locked
from isoflop.tokens import Manifest, PrepareConfig, TokenDataset, prepare
from isoflop.tokens.selection import group_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "corpus"
WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
]


def sentence(number):
    words = [WORDS[(number * 7 + j * j) % len(WORDS)] for j in range(5 + number % 40)]
    return f"{number} žluť " + " ".join(words) + ".\n"


def write(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def corpus(tmp_path):
    write(tmp_path / "corpus" / "a.jsonl", [sentence(number) for number in range(300)])
    write(tmp_path / "corpus" / "b.jsonl", [sentence(number) for number in range(250, 400)])
    return tmp_path / "corpus"


@pytest.fixture
def config(corpus):
    return PrepareConfig(str(corpus), vocab_size=300, validation_fraction=0.1)


def documents_of(folder, split):
    dataset = TokenDataset.open(folder)
    ids = dataset.tokens(split)[:]
    starts = np.flatnonzero(ids == dataset.tokenizer.bos)
    assert starts[0] == 0
    assert np.array_equal(np.append(starts[1:], len(ids)) - 1, np.flatnonzero(ids == dataset.tokenizer.eos))
    return [dataset.tokenizer.decode(part) for part in np.split(ids, starts[1:])]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_distinct_document_is_in_one_split_exactly_once_and_whole(config, tmp_path):
    manifest = prepare(config, tmp_path / "out")
    train, validation = (documents_of(tmp_path / "out", split) for split in ("train", "validation"))
    assert sorted(train + validation) == sorted(sentence(number) for number in range(400))
    assert 20 <= len(validation) <= 60
    for name, texts in (("train", train), ("validation", validation)):
        split = manifest.splits[name]
        assert split.documents == len(texts)
        assert split.text_bytes == sum(len(text.encode()) for text in texts)
        assert split.tokens == len(TokenDataset.open(tmp_path / "out").tokens(name))
    assert manifest.quarantine == {
        "records": 450,
        "bad": 0,
        "empty": 0,
        "damaged": 0,
        "damaged_bytes": 0,
        "links": 0,
        "duplicates": 50,
        "beyond_max_bytes": 0,
        "places": [],
    }


def test_the_split_does_not_depend_on_the_order_of_the_corpus(config, tmp_path):
    prepare(config, tmp_path / "out")
    write(tmp_path / "other" / "z.jsonl", [sentence(number) for number in reversed(range(400))])
    prepare(replace(config, corpus=str(tmp_path / "other")), tmp_path / "out2")
    for split in ("train", "validation"):
        assert sorted(documents_of(tmp_path / "out", split)) == sorted(documents_of(tmp_path / "out2", split))
    one, two = Manifest.read(tmp_path / "out"), Manifest.read(tmp_path / "out2")
    assert one.corpus_fingerprint == two.corpus_fingerprint
    assert one.fingerprint != two.fingerprint


def test_a_corpus_that_grows_moves_no_document_between_the_splits(config, corpus, tmp_path):
    prepare(config, tmp_path / "out")
    write(corpus / "c.jsonl", [sentence(number) for number in range(400, 900)])
    prepare(config, tmp_path / "out2")
    for split in ("train", "validation"):
        assert set(documents_of(tmp_path / "out", split)) < set(documents_of(tmp_path / "out2", split))


def test_the_tokenizer_sees_no_validation_document(config, tmp_path):
    one = prepare(config, tmp_path / "out")
    train = documents_of(tmp_path / "out", "train")
    strange = [f"{n} qqzz wwxx" * 50 for n in range(60)]
    write(tmp_path / "b.jsonl", train + strange)
    prepare(replace(config, corpus=str(tmp_path / "b.jsonl")), tmp_path / "out2")
    held_out = documents_of(tmp_path / "out2", "validation")
    assert held_out
    assert set(held_out) <= set(strange)
    # The same documents to train on, and others held out: the tokenizer cannot tell.
    write(tmp_path / "c.jsonl", train + held_out)
    two = prepare(replace(config, corpus=str(tmp_path / "c.jsonl")), tmp_path / "out3")
    assert sorted(documents_of(tmp_path / "out3", "validation")) == sorted(held_out)
    assert one.tokenizer_checksum == two.tokenizer_checksum


def test_the_same_config_twice_gives_the_same_bytes(config, tmp_path):
    prepare(config, tmp_path / "out")
    prepare(config, tmp_path / "out2")
    assert files(tmp_path / "out") == files(tmp_path / "out2")


def test_another_seed_holds_out_other_documents(config, tmp_path):
    prepare(config, tmp_path / "out")
    prepare(replace(config, seed=1), tmp_path / "out2")
    assert documents_of(tmp_path / "out", "validation") != documents_of(tmp_path / "out2", "validation")


def test_a_prepared_folder_is_returned_at_once_without_reading_the_corpus(config, corpus, tmp_path):
    manifest = prepare(config, tmp_path / "out")
    before = files(tmp_path / "out")
    for file in corpus.iterdir():
        file.unlink()
    assert prepare(config, tmp_path / "out") == manifest
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 301),
        ("seed", 5),
        ("max_bytes", 9000),
        ("corpus", "x"),
        ("tokenizer", "t.json"),
        ("tokenizer_kind", "unigram"),
    ],
)
def test_another_config_in_the_same_folder_names_the_field_that_differs(config, tmp_path, field, value):
    prepare(config, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(ValueError, match=rf"prepared with {field} = .*now it is {value!r}"):
        prepare(replace(config, **{field: value}), tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_two_corpora_share_a_tokenizer(config, tmp_path):
    one = prepare(config, tmp_path / "out")
    write(tmp_path / "other.jsonl", [f"qqzz {number} wwxx" for number in range(50)])
    shared = PrepareConfig(str(tmp_path / "other.jsonl"), tokenizer=str(tmp_path / "out" / "tokenizer.json"))
    told = []
    two = prepare(shared, tmp_path / "out2", lambda stage, done, total: told.append(stage))
    assert "tokenizer" not in told
    assert (two.tokenizer_checksum, two.vocab_size) == (one.tokenizer_checksum, 300)
    assert len(documents_of(tmp_path / "out2", "train") + documents_of(tmp_path / "out2", "validation")) == 50
    assert prepare(shared, tmp_path / "out2") == two


def test_a_size_that_the_given_tokenizer_does_not_have_is_refused(config, tmp_path):
    prepare(config, tmp_path / "out")
    file = tmp_path / "out" / "tokenizer.json"
    with pytest.raises(ValueError, match="has 300 ids and not the 400 that were asked for"):
        prepare(replace(config, tokenizer=str(file), vocab_size=400), tmp_path / "out2")
    for option in (["--vocab-size", "8192"], ["--tokenizer-kind", "bpe"]):
        with pytest.raises(ValueError, match="has a kind and a size of its own"):
            command(["--corpus", config.corpus, "--out", str(tmp_path / "out3"), "--tokenizer", str(file), *option])


def test_every_kind_of_tokenizer_keeps_the_documents_whole(config, tmp_path):
    pytest.importorskip("sentencepiece")
    manifest = prepare(replace(config, tokenizer_kind="sentencepiece-bpe"), tmp_path / "out")
    texts = documents_of(tmp_path / "out", "train") + documents_of(tmp_path / "out", "validation")
    assert sorted(texts) == sorted(sentence(number) for number in range(400))
    assert TokenDataset.open(tmp_path / "out").tokenizer.kind == "sentencepiece-bpe"
    assert manifest.splits["train"].text_bytes == sum(len(t.encode()) for t in documents_of(tmp_path / "out", "train"))


def test_the_engine_is_recorded_and_changes_no_shard(config, tmp_path, monkeypatch):
    pytest.importorskip("gigatoken")
    slow = prepare(config, tmp_path / "out")
    monkeypatch.setattr("isoflop.tokens.tokenizer._LARGE_BATCH", 1)
    fast = prepare(config, tmp_path / "out2")
    assert (slow.engine.split()[0], fast.engine.split()[0]) == ("tokenizers", "gigatoken")
    assert fast.fingerprint == slow.fingerprint
    assert fast.splits == slow.splits


def test_a_shared_tokenizer_that_changed_since_is_refused(config, tmp_path):
    prepare(config, tmp_path / "out")
    shared = replace(config, tokenizer=str(tmp_path / "out" / "tokenizer.json"))
    prepare(shared, tmp_path / "out2")
    prepare(replace(config, vocab_size=310), tmp_path / "out3")
    (tmp_path / "out" / "tokenizer.json").write_bytes((tmp_path / "out3" / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="another tokenizer than"):
        prepare(shared, tmp_path / "out2")


@pytest.mark.parametrize("stage", ["read", "tokenizer", "encode"])
def test_killed_in_any_stage_it_leaves_no_manifest_and_starts_again_cleanly(config, tmp_path, stage):
    out = tmp_path / "out"
    program = f"""
import os, signal, sys
from pathlib import Path
from isoflop.tokens import PrepareConfig, prepare
sys.modules["isoflop.tokens.batches"].CHARACTERS = 1000

def die(stage, done, total):
    if stage == {stage!r} and done >= total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

config = PrepareConfig({config.corpus!r}, vocab_size=300, validation_fraction=0.1, shard_tokens=700)
prepare(config, Path({str(out)!r}), die)
"""
    died = subprocess.run([sys.executable, "-c", program], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    if stage == "encode":
        assert (out / "train-00000.bin").exists()
    with pytest.raises(ValueError, match="not a prepared corpus"):
        TokenDataset.open(out)
    prepare(config, out)
    prepare(config, tmp_path / "clean")
    assert files(out) == files(tmp_path / "clean")


def test_a_second_process_waits_for_the_first_and_takes_its_result(config, tmp_path):
    out = tmp_path / "out"
    prepare(config, out)
    expected = files(out)
    (out / "manifest.json").rename(tmp_path / "manifest.json")
    program = (
        "from pathlib import Path; from isoflop.tokens import PrepareConfig, prepare;"
        "print('ready', flush=True);"
        f"prepare(PrepareConfig({config.corpus!r}, 300, 0.1), Path({str(out)!r}))"
    )
    with locked(out / ".isoflop-lock"):
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
        inodes = {path.name: path.stat().st_ino for path in out.iterdir()}
        (tmp_path / "manifest.json").rename(out / "manifest.json")
    assert other.wait(20) == 0
    other.stdout.close()
    assert files(out) == expected
    assert {path.name: path.stat().st_ino for path in out.iterdir()}.items() >= inodes.items()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(config, tmp_path, monkeypatch, code):
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) > 4:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"the disk is full.*max_bytes"):
        prepare(replace(config, shard_tokens=500), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".isoflop-lock"]
    monkeypatch.undo()
    prepare(config, tmp_path / "out")


def test_a_folder_with_something_else_in_it_is_not_touched(config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.bin").write_bytes(b"weights")
    with pytest.raises(ValueError, match="not empty"):
        prepare(config, tmp_path / "mine")
    assert files(tmp_path / "mine") == {"model.bin": b"weights"}
    with pytest.raises(ValueError, match="is a file"):
        prepare(config, tmp_path / "mine" / "model.bin")


def test_shards_have_the_stated_size_and_join_to_the_same_stream(config, tmp_path):
    whole = prepare(config, tmp_path / "out")
    cut = prepare(replace(config, shard_tokens=1000), tmp_path / "out2")
    for name in ("train", "validation"):
        sizes = [shard.tokens for shard in cut.splits[name].shards]
        assert len(sizes) > 1
        assert set(sizes[:-1]) == {1000}
        assert 0 < sizes[-1] <= 1000
        assert cut.splits[name].shards[1].file == f"{name}-00001.bin"
        one, two = (TokenDataset.open(tmp_path / out).tokens(name) for out in ("out", "out2"))
        assert np.array_equal(one[:], two[:])
        for span in (slice(0, 1), slice(990, 1010), slice(500, len(one)), slice(700, 700), slice(-3, None)):
            assert np.array_equal(one[:][span], two[span])
        for total in ("tokens", "documents", "text_bytes"):
            assert getattr(whole.splits[name], total) == getattr(cut.splits[name], total)


def with_every_pair(path, size):
    """Make a tokenizer.json one of ``size`` ids: its bytes, as many pairs of them, and its special tokens."""
    told = json.loads(path.read_text())
    special = told["added_tokens"]
    alphabet = sorted(token for token in told["model"]["vocab"] if len(token) == 1)
    pairs = list(itertools.product(alphabet, repeat=2))[: size - len(special) - len(alphabet)]
    told["model"]["merges"] = [list(pair) for pair in pairs]
    told["model"]["vocab"] = {token: n for n, token in enumerate([*alphabet, *map("".join, pairs)])}
    for n, token in enumerate(special):
        token["id"] = size - len(special) + n
    path.write_text(json.dumps(told))


def test_more_than_65536_ids_are_stored_in_four_bytes(config, tmp_path):
    prepare(config, tmp_path / "small")
    tokenizer = tmp_path / "large.json"
    tokenizer.write_bytes((tmp_path / "small" / "tokenizer.json").read_bytes())
    with_every_pair(tokenizer, 2**16 + 16)
    manifest = prepare(replace(config, tokenizer=str(tokenizer), vocab_size=2**16 + 16), tmp_path / "out")
    assert (manifest.dtype, manifest.vocab_size) == ("<u4", 2**16 + 16)
    assert TokenDataset.open(tmp_path / "out").tokens("train")[:].max() == 2**16 + 1
    for split in ("train", "validation"):
        assert documents_of(tmp_path / "out", split) == documents_of(tmp_path / "small", split)


def test_a_fresh_preparation_takes_two_bytes_a_token(config, tmp_path):
    manifest = prepare(config, tmp_path / "out")
    tokens = sum(split.tokens for split in manifest.splits.values())
    assert sum(file.stat().st_size for file in (tmp_path / "out").glob("*.bin")) == 2 * tokens


def test_a_sample_keeps_to_its_bytes_and_draws_from_every_source(config, corpus, tmp_path):
    write(corpus / "small.jsonl", ["a rare source"])
    total = prepare(config, tmp_path / "all")
    size = sum(split.text_bytes for split in total.splits.values())
    sampled = prepare(replace(config, max_bytes=size // 4, vocab_size=290), tmp_path / "some")
    kept = documents_of(tmp_path / "some", "train") + documents_of(tmp_path / "some", "validation")
    assert size // 4 - 500 < sum(len(text.encode()) for text in kept) <= size // 4
    assert "a rare source" in kept
    numbers = [int(text.split()[0]) for text in kept if text != "a rare source"]
    early = sum(number < 300 for number in numbers) / len(numbers)
    assert 0.70 < early < 0.80
    assert sampled.quarantine["beyond_max_bytes"] == 401 - len(kept)
    assert sampled.corpus_fingerprint == total.corpus_fingerprint


def test_sources_are_files_of_records_and_top_folders_of_texts():
    assert group_of("web/a.jsonl.zst:17") == "web/a.jsonl.zst"
    assert group_of("books/shelf/a.txt:2") == "books"
    assert group_of("numpy/_core/numeric.py") == "numpy"
    assert group_of("odd:name.txt:1") == "odd:name.txt"


def test_something_is_always_held_out_of_a_single_text(tmp_path):
    (tmp_path / "a.txt").write_text("".join(sentence(number) + "\n" for number in range(900)))
    manifest = prepare(PrepareConfig(str(tmp_path / "a.txt"), 300, validation_fraction=1e-9), tmp_path / "out")
    assert manifest.splits["validation"].documents == 1
    assert manifest.splits["train"].documents >= 1


@pytest.mark.parametrize(
    ("texts", "changes", "message"),
    [
        (["one document"], {}, "1 distinct documents.*at least two"),
        (["same", "same"], {}, "1 distinct documents"),
        (["a" * 100, "b" * 100], {"max_bytes": 150}, "1 of them within max_bytes"),
        (["few words", "and few more"], {"vocab_size": 2000}, "too small for a vocabulary of 2000"),
    ],
)
def test_a_corpus_that_is_too_small_says_so(tmp_path, texts, changes, message):
    write(tmp_path / "a.jsonl", texts)
    config = PrepareConfig(str(tmp_path / "a.jsonl"), vocab_size=300)
    with pytest.raises(ValueError, match=message):
        prepare(replace(config, **changes), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_corpus_that_changes_meanwhile_is_an_error(config, corpus, tmp_path):
    def change(stage, done, total):
        if stage == "tokenizer":
            write(corpus / "a.jsonl", ["other " + sentence(number) for number in range(300)])

    with pytest.raises(CorpusError, match="changed while it was being read"):
        prepare(config, tmp_path / "out", change)


def test_bad_records_are_counted_in_the_manifest(config, corpus, tmp_path):
    with (corpus / "b.jsonl").open("a") as file:
        file.write('{"text": "cut of')
    manifest = prepare(config, tmp_path / "out")
    assert (manifest.quarantine["records"], manifest.quarantine["bad"]) == (451, 1)
    assert manifest.quarantine["places"][0].startswith("b.jsonl:151: broken JSON")


def test_a_damaged_file_does_not_end_a_preparation_that_lets_it_pass(config, corpus, tmp_path):
    whole = sum(file.stat().st_size for file in corpus.rglob("*") if file.is_file())
    (corpus / "z.jsonl.gz").write_bytes(gzip.compress(os.urandom(whole // 20))[:-8])
    with pytest.raises(CorpusError, match=r"z\.jsonl\.gz is .*bad_fraction"):
        prepare(config, tmp_path / "refused")
    manifest = prepare(replace(config, bad_fraction=0.1), tmp_path / "out")
    before = prepare(replace(config, corpus=str(corpus / "b.jsonl")), tmp_path / "other")
    assert manifest.quarantine["damaged"] == 1
    assert manifest.quarantine["places"][-1].startswith("z.jsonl.gz:")
    assert manifest.splits["train"].tokens > before.splits["train"].tokens


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("validation_fraction", 0.0),
        ("validation_fraction", 0.6),
        ("validation_fraction", float("nan")),
        ("max_bytes", 0),
        ("tokenizer_bytes", 2**31),
        ("shard_tokens", 0),
        ("vocab_size", 272),
        ("tokenizer_kind", "bep"),
    ],
)
def test_an_impossible_config_names_its_field(field, value):
    with pytest.raises(ValueError, match=f"{field} is"):
        PrepareConfig(**{field: value})


def test_verify_finds_a_flipped_bit_and_opening_finds_a_lost_byte(config, tmp_path):
    out = tmp_path / "out"
    prepare(config, out)
    TokenDataset.open(out).verify()
    shard = out / "train-00000.bin"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-00000\.bin is damaged"):
        TokenDataset.open(out).verify()
    shard.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=r"train-00000\.bin is missing or not \d+ bytes"):
        TokenDataset.open(out)
    with pytest.raises(ValueError, match="missing"):
        prepare(config, out)


def test_another_tokenizer_than_the_one_that_made_the_tokens_is_refused(config, tmp_path):
    prepare(config, tmp_path / "out")
    prepare(replace(config, vocab_size=310), tmp_path / "out2")
    (tmp_path / "out" / "tokenizer.json").write_bytes((tmp_path / "out2" / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="not the tokenizer that made these tokens"):
        TokenDataset.open(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.pop("splits"), "cannot be used"),
        (lambda m: m.update(dtype="|O"), "dtype"),
        (lambda m: m["splits"]["train"]["shards"][0].update(file="../secret.bin"), "outside the folder"),
        (lambda m: m["splits"]["train"]["shards"][0].update(tokens="many"), "cannot be used"),
        (lambda m: m.update(splits=[]), "cannot be used"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(config, tmp_path, change, message):
    prepare(config, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message):
        TokenDataset.open(tmp_path / "out")


def test_progress_ends_at_its_total_in_every_stage(config, tmp_path):
    told = {}
    prepare(config, tmp_path / "out", lambda stage, done, total: told.update({stage: (done, total)}))
    assert list(told) == ["read", "tokenizer", "encode"]
    assert all(done == total > 0 for done, total in told.values())


@pytest.mark.skipif(not SHARED.exists(), reason="no shared corpus")
def test_a_real_text_is_prepared_without_loss(tmp_path):
    path = SHARED / "standard" / "tiny-shakespeare" / "input.txt"
    prepare(PrepareConfig(str(path), vocab_size=1024), tmp_path / "out")
    texts = documents_of(tmp_path / "out", "train") + documents_of(tmp_path / "out", "validation")
    assert sorted("".join(texts)) == sorted(path.read_text())
    assert 2.0 < TokenDataset.open(tmp_path / "out").bytes_per_token("train") < 4.0
