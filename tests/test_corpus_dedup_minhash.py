import numpy as np
import pytest
from dedup import kept, prose, run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isoflop import files
from isoflop.corpus.dedup import runs
from isoflop.corpus.dedup.codepoints import batches
from isoflop.corpus.dedup.minhash import FINEWEB, REFINEDWEB, NearDuplicates
from isoflop.corpus.dedup.shingles import shingles
from isoflop.corpus.dedup.sketch import sketches


def pair(rng, similarity, union):
    """Two sets of about the similarity, as they are laid out for sketching, and their true similarity."""
    shared = round(similarity * union)
    own = (union - shared) // 2
    values = rng.integers(0, 2**64, shared + 2 * own, np.uint64)
    left, right = values[: shared + own], np.concatenate([values[:shared], values[shared + own :]])
    return left, right, shared / len(values)


def sketched(sets, size, seed=0):
    numbers = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    return sketches(np.concatenate(sets), numbers, len(sets), size, seed)


@pytest.mark.parametrize("union", [12, 60, 400, 3000])
@pytest.mark.parametrize("similarity", [0.25, 0.5, 0.8])
def test_a_share_of_places_equal_to_the_jaccard_similarity_agrees(similarity, union):
    rng = np.random.default_rng(union)
    pairs = [pair(rng, similarity, union) for _ in range(300)]
    table = sketched([s for left, right, _ in pairs for s in (left, right)], 112)
    agreement = (table[::2] == table[1::2]).mean(axis=1)
    truth = np.mean([t for _, _, t in pairs])
    assert abs(agreement.mean() - truth) < 5 * np.sqrt(truth * (1 - truth) / (112 * 300))
    assert agreement.std() < 1.15 * np.sqrt(truth * (1 - truth) / 112)


@pytest.mark.parametrize("union", [40, 200, 1500])
@pytest.mark.parametrize("similarity", [0.5, 0.65, 0.75, 0.85])
def test_recall_follows_the_s_curve_within_binomial_error(similarity, union):
    rng = np.random.default_rng(union + round(100 * similarity))
    pairs = [pair(rng, similarity, union) for _ in range(600)]
    stage = NearDuplicates()
    table = sketched([s for left, right, _ in pairs for s in (left, right)], stage.bands * stage.rows)
    bands = stage._band_hashes(table)
    found = int((bands[::2] == bands[1::2]).any(axis=1).sum())
    expected = 1 - (1 - pairs[0][2] ** stage.rows) ** stage.bands
    low, high = stats.binom.interval(1 - 1e-4, len(pairs), expected)
    assert low <= found <= high


def test_sketches_do_not_depend_on_what_else_is_in_the_batch():
    rng = np.random.default_rng(1)
    sets = [rng.integers(0, 2**64, n, np.uint64) for n in (1, 7, 700, 90, 3)]
    together = sketched(sets, 112)
    assert all(np.array_equal(together[i], sketched([s], 112)[0]) for i, s in enumerate(sets))
    assert np.array_equal(sketched([np.repeat(s, 3) for s in sets], 112), together)


def words_in_python(text):
    """The oracle: words as the module's docstring describes them, for texts of ASCII and Chinese."""
    found, word = [], ""
    for c in text + " ":
        if "一" <= c <= "鿿" or not (c.isalnum() or c == "_"):
            found += [word] if word else []
            found += [c] if "一" <= c <= "鿿" else []
            word = ""
        else:
            word += c.lower()
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("aAb1 _-.\n\0中文", max_size=40), min_size=1, max_size=6), st.integers(1, 4))
def test_texts_have_equal_shingles_exactly_where_their_words_are_equal(texts, n):
    (batch,) = batches(texts)
    hashes, numbers = shingles(batch, n)
    expected = []
    for i, text in enumerate(texts):
        words = words_in_python(text)
        runs = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)] or ([tuple(words)] if words else [])
        expected += [(i, run) for run in runs]
    assert numbers.tolist() == [i for i, _ in expected]
    names = {}
    for value, (_, gram) in zip(hashes.tolist(), expected, strict=True):
        assert names.setdefault(gram, value) == value
    assert len(set(names.values())) == len(names)


def corpus(seed=0, originals=60):
    """Documents of which some are copies of an earlier one with a few words changed; and which those are."""
    rng = np.random.default_rng(seed)
    texts, copies = [], []
    for _ in range(originals):
        words = prose(rng, int(rng.integers(150, 400)))
        texts.append(" ".join(words))
        for _ in range(int(rng.integers(0, 3))):
            changed = list(words)
            changed[int(rng.integers(0, len(words)))] = "other"
            copies.append(len(texts))
            texts.append(" ".join(changed))
    return texts, copies


def test_planted_near_duplicates_go_and_nothing_else(tmp_path):
    texts, copies = corpus()
    assert kept(run(FINEWEB, texts, tmp_path / "a", [50])) == [i for i in range(len(texts)) if i not in copies]


@pytest.mark.parametrize("keep", ["first", "longest"])
@pytest.mark.parametrize("similarity", [0.0, 0.8])
def test_the_cut_into_shards_and_the_memory_change_nothing(tmp_path, monkeypatch, keep, similarity):
    texts, _ = corpus(3)
    stage = NearDuplicates(keep=keep, similarity=similarity, memory_mb=1)
    whole = kept(run(stage, texts, tmp_path / "a"))
    assert len(whole) == 60
    monkeypatch.setattr(runs, "COPIES", 1 << 10)  # so small a corpus is then merged in a dozen ranges
    for number, cuts in enumerate([(), (1, 2, 3), (20, 20, 60), (40,)]):
        assert kept(run(stage, texts, tmp_path / f"b{number}", cuts)) == whole


def test_the_longest_of_a_component_stays_and_of_equals_the_first(tmp_path):
    rng = np.random.default_rng(0)
    words = prose(rng, 300)
    texts = [
        " ".join(words),
        " ".join([*words, "more"]),
        " ".join([*words, "less"]),
        "lone words of nobody",
    ]
    assert kept(run(NearDuplicates(keep="longest"), texts, tmp_path / "a", [1])) == [1, 3]
    assert kept(run(NearDuplicates(), texts, tmp_path / "b", [1])) == [0, 3]


def test_documents_without_words_never_swallow_their_neighbours(tmp_path):
    texts = ["", " \n", "--- ***", "", "one", "two", "one", "a b c", "A, b; c!", "...", "a b c d"]
    assert kept(run(FINEWEB, texts, tmp_path / "a", [0, 3])) == [0, 1, 2, 3, 4, 5, 7, 9, 10]
    assert kept(run(FINEWEB, ["", " "], tmp_path / "b")) == [0, 1]
    assert kept(run(FINEWEB, [], tmp_path / "c")) == []


def test_a_candidate_whose_sketch_disagrees_stays_when_similarity_is_asked_for(tmp_path):
    rng = np.random.default_rng(5)
    texts = []
    for _ in range(40):
        words = prose(rng, 400)
        texts += [" ".join(words), " ".join(words[:300] + prose(rng, 100))]
    loose = NearDuplicates(bands=56, rows=2)
    strict = NearDuplicates(bands=56, rows=2, similarity=0.85)
    assert len(kept(run(loose, texts, tmp_path / "a"))) == 40
    assert len(kept(run(strict, texts, tmp_path / "b"))) == 80


def test_refinedweb_keeps_what_differs_in_a_few_words_in_a_hundred(tmp_path):
    rng = np.random.default_rng(6)
    words = prose(rng, 200)
    changed = list(words)
    changed[::50] = ["x"] * 4
    texts = [" ".join(words), " ".join(changed), " ".join(words).upper()]
    assert kept(run(REFINEDWEB, texts, tmp_path / "a")) == [0, 1]


def test_killed_at_any_write_and_called_again_the_verdicts_are_the_same(tmp_path, monkeypatch):
    texts, _ = corpus(4, 20)
    stage = NearDuplicates(similarity=0.5, keep="longest")
    expected = run(stage, texts, tmp_path / "whole", [20])
    for write in range(6):  # two shards, three files each
        survive_a_kill(monkeypatch, write, lambda folder: run(stage, texts, folder, [20]), tmp_path / f"at{write}")
    for folder in tmp_path.glob("at*"):
        assert run(stage, texts, folder, [20]) == expected
        for path in (tmp_path / "whole").rglob("*.npy"):
            assert (folder / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def survive_a_kill(monkeypatch, write, work, folder):
    """Do the work with the death of its process in place of its n-th finished write."""
    real, left = files.commit, iter(range(write, -1, -1))

    def dies(temporary, path):
        if next(left) == 0:
            raise KeyboardInterrupt
        real(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            work(folder)


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="bands"):
        NearDuplicates(bands=0)
