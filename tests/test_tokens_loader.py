import json

import numpy as np
import pytest

from isoflop.tokens import Loader, PrepareConfig, TokenDataset, prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    texts = [f"document {n}: " + "some words to learn from, " * (n % 9) + "é" * (n % 5) for n in range(500)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = PrepareConfig(str(folder / "a.jsonl"), vocab_size=300, validation_fraction=0.2, shard_tokens=3000)
    prepare(config, folder / "out")
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    return TokenDataset.open(folder / "out")


def test_one_epoch_is_every_sequence_once_with_the_next_token_as_target(dataset):
    loader = Loader(dataset, context=16)
    stream = dataset.tokens("train")[:].astype(np.int64)
    batch = loader.batch(0, loader.samples_per_epoch)
    assert batch.dtype == np.int64
    assert batch.shape == ((len(stream) - 1) // 16, 17)
    expected = np.lib.stride_tricks.sliding_window_view(stream, 17)[::16]
    assert np.array_equal(batch[np.argsort(loader.positions(0, len(batch)))], expected)
    assert len(dataset.split("train").shards) > 2, "sequences should cross shards here"


def test_sequences_cover_all_targets_but_the_tail(dataset):
    for context in (1, 7, 64):
        loader = Loader(dataset, context=context)
        left = len(dataset.tokens("train")) - 1 - loader.samples_per_epoch * context
        assert 0 <= left < context


def test_the_order_resumes_at_any_sample_with_any_batch_size(dataset):
    loader = Loader(dataset, context=32, seed=3)
    n = loader.samples_per_epoch
    whole = loader.batch(0, 3 * n)
    for first, count in ((0, 1), (5, 64), (n - 1, 2), (n, 7), (2 * n - 3, n + 3)):
        assert np.array_equal(Loader(dataset, context=32, seed=3).batch(first, count), whole[first : first + count])


def test_every_epoch_is_a_whole_pass_in_an_order_of_its_own(dataset):
    loader = Loader(dataset, context=32)
    n = loader.samples_per_epoch
    epochs = loader.positions(0, 3 * n).reshape(3, n)
    assert all(np.array_equal(np.sort(epoch), np.arange(n)) for epoch in epochs)
    assert (epochs[0] == epochs[1]).mean() < 0.1
    assert (epochs[1] == epochs[2]).mean() < 0.1
    assert (epochs[0] == np.arange(n)).mean() < 0.1


def test_a_sample_far_beyond_is_as_near_as_the_first(dataset):
    loader = Loader(dataset, context=32)
    assert loader.batch(10**15, 2).shape == (2, 33)


def test_the_order_depends_on_seed_split_and_tokens_but_not_on_the_folder(dataset, folder, tmp_path):
    order = Loader(dataset, context=8).positions(0, 200)
    assert not np.array_equal(order, Loader(dataset, context=8, seed=1).positions(0, 200))
    for file in (folder / "out").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert np.array_equal(order, Loader(TokenDataset.open(tmp_path), context=8).positions(0, 200))


def test_document_ids_count_the_beginnings_in_a_row(dataset):
    loader = Loader(dataset)
    bos, eos = dataset.tokenizer.bos, dataset.tokenizer.eos
    batch = np.array([[bos, 5, eos, bos, 6, eos, bos], [5, 5, eos, bos, 6, 6, 6]])
    assert loader.document_ids(batch).tolist() == [[0, 0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 1]]


def test_the_fixed_samples_are_in_order_evenly_spread_and_the_same_for_every_seed(dataset):
    loader = Loader(dataset, "validation", context=16, seed=1)
    n = loader.samples_per_epoch
    everything = loader.sequential(n)
    stream = dataset.tokens("validation")[:]
    assert np.array_equal(everything.tokens[:, :-1].ravel(), stream[: n * 16])
    some = loader.sequential(10)
    assert np.array_equal(some.tokens, Loader(dataset, "validation", 16, seed=2).sequential(10).tokens)
    assert np.array_equal(some.tokens, everything.tokens[[k * n // 10 for k in range(10)]])
    assert len(loader.sequential(10**9).tokens) == n


def test_the_bytes_of_the_fixed_samples_are_those_of_their_targets(dataset):
    samples = Loader(dataset, "validation", context=16).sequential(10**9)
    text = dataset.tokenizer.decode(samples.tokens[:, 1:].ravel())
    assert samples.text_bytes == len(text.encode("utf-8"))
    whole = Loader(dataset, "validation", context=1).sequential(10**9)
    assert whole.text_bytes == dataset.split("validation").text_bytes
    per_token = whole.text_bytes / whole.tokens[:, 1:].size
    assert per_token == pytest.approx(dataset.bytes_per_token("validation"), rel=1e-3)


def test_an_epoch_in_which_the_context_grows_is_every_target_once(dataset):
    """16 tokens, then 32, then 64, with an epoch's end inside the second stage and inside the third."""
    stream = dataset.tokens("train")[:].astype(np.int64)
    n = Loader(dataset, context=64).samples_per_epoch
    cuts = [0, n // 2 * 64, (n + n // 3) * 64, 2 * n * 64]
    seen = []
    for start, end, context in zip(cuts[:-1], cuts[1:], (16, 32, 64), strict=True):
        loader = Loader(dataset, "train", context, 3, block=64, start=start, end=end)
        batch = loader.batch(start // context, (end - start) // context)
        where = loader.positions(start // context, (end - start) // context)[:, None] * context + np.arange(context + 1)
        assert np.array_equal(batch, stream[where])
        seen.append(where[:, 1:].ravel())
    for epoch in np.concatenate(seen).reshape(2, -1):
        assert np.array_equal(np.sort(epoch), np.arange(1, n * 64 + 1))


def test_a_loader_in_one_stage_is_the_plain_loader(dataset):
    plain, staged = Loader(dataset, "train", 32, 1), Loader(dataset, "train", 32, 1, block=32, start=32 * 5)
    assert np.array_equal(plain.batch(5, 300), staged.batch(5, 300))
    assert plain.samples_per_epoch == staged.samples_per_epoch


def test_a_split_too_short_for_the_context_says_so(dataset):
    n = len(dataset.tokens("validation"))
    assert Loader(dataset, "validation", context=n - 1).samples_per_epoch == 1
    with pytest.raises(ValueError, match=f"the validation split has {n} tokens, too few for one sequence of {n}"):
        Loader(dataset, "validation", context=n)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: Loader(d, "test"), "no split 'test'"),
        (lambda d: Loader(d, context=0), "context is 0"),
        (lambda d: Loader(d, context=48, block=64), "the context must divide a block"),
        (lambda d: Loader(d, context=32, block=64, start=32), "the stage be whole ones"),
        (lambda d: Loader(d, context=32, block=64, end=96), "the stage be whole ones"),
        (lambda d: Loader(d, context=32, block=64, end=128).batch(0, 5), "not of this stage"),
        (lambda d: Loader(d).batch(-1, 4), "there are none"),
        (lambda d: Loader(d).batch(0, 0), "there are none"),
        (lambda d: Loader(d).sequential(0), "at least one"),
    ],
)
def test_impossible_requests_say_why(dataset, call, message):
    with pytest.raises(ValueError, match=message):
        call(dataset)
