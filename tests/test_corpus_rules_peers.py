"""The same verdicts as datatrove when both count the same words, and each known difference shown to be one.

The differences are removed on either side before comparing: datatrove's list of symbols is replaced by the definition
used here, texts have no newlines at their ends, and more than the few words of which any n-gram is its top one.
"""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus import documents
from isoflop.corpus.document import Document
from isoflop.corpus.rules import C4, FineWeb, GopherQuality, GopherRepetition
from isoflop.corpus.rules.words import SENTENCE_ENDS, sentences, words

pytest.importorskip("datatrove")
pytest.importorskip("loguru")

SHARED = Path(__file__).parents[2] / "shared/corpus/heldout"


class Everything:
    """A set of characters by definition."""

    def __contains__(self, character):
        return not character.isalnum()


@pytest.fixture(scope="module")
def pairs():
    """Each stage with datatrove's filter of the same thresholds and words."""
    from datatrove.pipeline import filters
    from datatrove.pipeline.filters import gopher_quality_filter
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Plugged(WordTokenizer):
        def word_tokenize(self, text):
            return words(text)

        def sent_tokenize(self, text):
            return [text] * sentences(text)

        def span_tokenize(self, text):
            return [(0, len(text))] * sentences(text)

    same = {"language": Plugged()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gopher_quality_filter, "PUNCTUATION_SET", Everything())
        yield [
            (GopherQuality(), filters.GopherQualityFilter(**same)),
            (GopherRepetition(), filters.GopherRepetitionFilter(**same)),
            (C4(min_sentences=5, min_words=3, end_marks=".?!\"'"), filters.C4QualityFilter(**same)),
            (C4(end_marks=""), filters.C4QualityFilter(
                filter_no_terminal_punct=False, min_num_sentences=3, min_words_per_line=5, **same
            )),
            (FineWeb(), filters.FineWebQualityFilter(stop_chars=tuple(SENTENCE_ENDS), **same)),
        ]  # fmt: skip


def agree(pairs, text):
    from datatrove.data import Document as Theirs

    for stage, other in pairs:
        theirs = Theirs(text=text, id="", metadata={})
        verdict = other.filter(theirs)
        kept = verdict if isinstance(verdict, bool) else verdict[0]
        mine = stage.judge_one(Document(text, "", language="en"))
        assert isinstance(mine, Document) == kept, (stage.name, verdict, mine, text)
        if kept:
            assert mine.text == theirs.text.strip() or mine.text == text


WORDS = st.sampled_from(
    [*"#•-{}()a…", "...", *GopherQuality().stop_words, "javascript", "12", "3.14", "lorem", "ipsum", "word.", "End!"]
)
LINES = st.lists(WORDS, min_size=1, max_size=14).map(" ".join)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(LINES, min_size=8, max_size=30),
    st.lists(st.sampled_from(["\n", "\n\n", "\n\n\n"]), min_size=30, max_size=30),
)
def test_verdicts_on_texts_near_every_limit(pairs, lines, ends):
    text = "".join(line + end for line, end in zip(lines, ends, strict=False)).strip()
    if len(words(text)) > 60:
        agree(pairs, text)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared corpus")
@pytest.mark.parametrize("name", ["sample-general", "sample-math", "whole-general-new-gresham-encyclopedia"])
def test_verdicts_on_real_text(pairs, name):
    blank = re.compile(r"\n[ \t]*\n")
    count = 0
    for document in documents(SHARED / f"{name}.jsonl.zst"):
        end = blank.search(document.text, 3000)
        text = document.text[: end.start() if end else 6000].strip()
        if len(words(text)) > 60:
            agree(pairs, text)
            count += 1
        if count == 60:
            break
    assert count > 30
