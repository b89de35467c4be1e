"""The word tokenizer, the shared view of a text, and repeated n-grams."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus.rules import text as shared
from isoflop.corpus.rules.ngrams import duplicate_characters, repeated, top_characters
from isoflop.corpus.rules.text import Vocabulary, view
from isoflop.corpus.rules.words import SENTENCE_ENDS, WORDS, is_symbol, is_unspaced, sentences, words


@settings(deadline=None)  # the first call draws up the classes of characters
@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("M", "Cf", "Cn", "Cs"))))
def test_every_letter_and_digit_is_in_exactly_one_word(text):
    found = words(text)
    assert [c for word in found for c in word if c.isalnum()] == [c for c in text if c.isalnum()]
    assert not any(c.isspace() for word in found for c in word)
    assert [word for word in found if is_symbol(word)] == [chunk for chunk in text.split() if is_symbol(chunk)]


@given(st.text(st.sampled_from("aB09 .,'-_#\t\n\x1c")))
def test_texts_in_ascii_have_the_words_that_they_have_among_other_texts(text):
    assert [*words(text), "é"] == words(f"{text} é")


@given(st.lists(st.text(min_size=1).filter(lambda part: part.split() == [part]), max_size=5))
def test_white_space_always_ends_a_word_and_its_kind_does_not_matter(parts):
    assert words(" ".join(parts)) == words("\n\n\t".join(parts)) == [word for part in parts for word in words(part)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop-over, vis-à-vis!", ["Don't", "stop-over", "vis-à-vis"]),
        ("'quoted' -dash- a--b x_y", ["quoted", "dash", "a", "b", "x", "y"]),
        ("3.14 = 1,000.5... — v2.0.", ["3.14", "=", "1,000.5", "—", "v2.0"]),
        ("a.b, 7.x", ["a", "b", "7", "x"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs are marks, which \w leaves out
        ("吾輩は猫である。", ["吾", "輩", "は", "猫", "で", "あ", "る"]),
        ("ก็ดี", ["ก็", "ดี"]),
        ("한국어 말", ["한국어", "말"]),
        ("Привет,мир", ["Привет", "мир"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("𠮷野 🙂🙂 𝐱", ["𠮷", "野", "🙂🙂", "𝐱"]),
    ],
)
def test_words_of_many_scripts(text, expected):
    assert words(text) == expected


def test_the_name_of_the_tokenizer_pins_its_version_and_the_tables_of_unicode():
    assert WORDS.startswith("isoflop-words-1/unicode-")


def test_sentence_ends_are_those_of_unicode():
    regex = pytest.importorskip("regex")
    assert not [mark for mark in SENTENCE_ENDS if not regex.fullmatch(r"\p{Sentence_Terminal}", mark)]
    assert set(".!?。！？।؟۔።") <= SENTENCE_ENDS


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("", 0),
        ("   ", 0),
        ("no mark", 1),
        ("One. Two! Three?", 3),
        ('He said "no." She went', 2),
        ("pi is 3.14 or so.", 1),
        ("一つ。二つ。", 2),
        ("Wait... what", 2),
        ("Wait....x 。」. 一つ。.x", 4),
        ("." * 100_000 + "x", 1),
    ],
)
def test_sentences(line, count):
    assert sentences(line) == count


@given(st.lists(st.text(min_size=1, max_size=8), max_size=40))
def test_equal_codes_are_equal_words_and_hold_what_is_true_of_them(found):
    vocabulary = Vocabulary()
    codes = [vocabulary[word] for word in found]
    assert [codes.index(code) for code in codes] == [found.index(word) for word in found]
    for word, code in zip(found, codes, strict=True):
        assert code >> 4 & (2**28 - 1) == len(word)
        assert bool(code & 1) == any(c.isalpha() for c in word)
        assert bool(code & 2) == is_symbol(word)
        assert bool(code & 4) == is_unspaced(word)


def test_a_view_does_not_depend_on_what_was_read_before(monkeypatch):
    text = "one two one 猫 ... two"
    before = view(text)
    assert view(text) is before
    monkeypatch.setattr(shared, "_VOCABULARY_CHARACTERS", 0)
    shared.forget()
    view("other words first")
    after = view(text)
    assert after is not before
    assert after.vocabulary is not before.vocabulary
    assert after.lengths.tolist() == before.lengths.tolist() == [3, 3, 3, 1, 3, 3]
    assert len(set(after.numbers.tolist())) == 4
    assert after.holds("two")
    assert not after.holds("three")


def test_remembered_texts_are_bounded(monkeypatch):
    monkeypatch.setattr(shared, "_REMEMBERED_CHARACTERS", 1000)
    shared.forget()
    for number in range(100):
        view(f"{number} " * 50)
    assert sum(map(len, shared._remembered)) <= 1000
    view("x" * 5000)
    assert len(shared._remembered) == 1


NUMBERS = st.lists(st.integers(0, 3), max_size=60)


@given(NUMBERS, st.integers(2, 12))
def test_repeated_ngrams_are_those_that_a_counter_finds(numbers, longest):
    for grams in repeated(np.array(numbers, np.int64), longest):
        every = [tuple(numbers[i : i + grams.n]) for i in range(len(numbers) - grams.n + 1)]
        counts = Counter(every)
        assert grams.places.tolist() == [i for i, gram in enumerate(every) if counts[gram] > 1]
        found = [every[i] for i in grams.places]
        pairs = set(zip(found, grams.groups.tolist(), strict=True))
        assert len(pairs) == len(set(found)) == len(set(grams.groups.tolist()))


def naive(numbers, lengths, n, counting):
    """The three ways to count, word by word."""
    met, inside, i = set(), set(), 0
    every = [tuple(numbers[k : k + n]) for k in range(len(numbers) - n + 1)]
    if counting == "all":
        for k, gram in enumerate(every):
            if every.count(gram) > 1:
                inside |= set(range(k, k + n))
        return sum(lengths[k] for k in inside)
    while i < len(every):
        if every[i] in met:
            inside |= set(range(i, i + n))
            i += n if counting == "skip" else 1
        else:
            met.add(every[i])
            i += 1
    return sum(lengths[k] for k in inside)


@given(NUMBERS, st.sampled_from(["skip", "repeats", "all"]))
def test_duplicate_characters_are_counted_as_their_definitions_say(numbers, counting):
    lengths = [number + 1 for number in numbers]
    for grams in repeated(np.array(numbers, np.int64), 6):
        found = duplicate_characters(grams, np.array(lengths, np.int64), counting)
        assert found == naive(numbers, lengths, grams.n, counting)


@given(NUMBERS)
def test_the_ways_to_count_are_ordered_and_longer_ngrams_cover_no_more(numbers):
    lengths = np.array(numbers, np.int64) + 1
    before = int(lengths.sum())
    for grams in repeated(np.array(numbers, np.int64), 8):
        skip, repeats, both = (duplicate_characters(grams, lengths, way) for way in ("skip", "repeats", "all"))
        assert skip <= repeats <= both <= before
        before = both


@given(NUMBERS)
def test_the_top_ngram_is_the_most_frequent_and_first_one(numbers):
    lengths = np.array(numbers, np.int64) + 1
    for grams in repeated(np.array(numbers, np.int64), 4):
        every = Counter(tuple(numbers[i : i + grams.n]) for i in range(len(numbers) - grams.n + 1))
        top, count = every.most_common(1)[0] if every else ((), 0)
        expected = count * (sum(number + 1 for number in top) + grams.n - 1) if count > 1 else 0
        assert top_characters(grams, lengths) == expected
