import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus import Document, read
from isoflop.corpus.sources.arxiv import Arxiv
from isoflop.corpus.sources.books import Books
from isoflop.corpus.sources.github import Github
from isoflop.corpus.sources.html import Html
from isoflop.corpus.sources.latex import without_comments
from isoflop.corpus.sources.latex_macros import expanded
from isoflop.corpus.sources.markup import plain_text
from isoflop.corpus.sources.stackexchange import StackExchange
from isoflop.corpus.sources.wikipedia import Wikipedia
from isoflop.corpus.stage import Dropped

SHARED = Path(__file__).resolve().parents[2] / "shared" / "corpus"
STAGES = [Arxiv(), Books(), Github(), StackExchange(need_answer=False), Wikipedia()]
CODE = "def area(width, height):\n    return width * height\n"


def clean(stage, text, **fields):
    return stage.judge_one(Document(text, "p", **fields))


def text_of(stage, text, **fields):
    verdict = clean(stage, text, **fields)
    assert isinstance(verdict, Document), verdict
    return verdict.text


def reason(stage, text, **fields):
    verdict = clean(stage, text, **fields)
    assert isinstance(verdict, Dropped), verdict
    return verdict.reason


# LaTeX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a % note\nb\n", "a\nb\n"),
        ("a\n  % only a note\nb", "a\nb"),
        (r"50\% of it % note", r"50\% of it"),
        (r"line\\% note", r"line\\"),
        (r"\verb|50% off| % note", r"\verb|50% off|"),
        (r"\url{http://a.b/%20c} % note", r"\url{http://a.b/%20c}"),
        ("\\begin{verbatim}\n% kept\n\\end{verbatim}\n% gone\n", "\\begin{verbatim}\n% kept\n\\end{verbatim}\n"),
        ("a\\begin{comment}\nx\n\\end{comment}b", "ab"),
        ("% \\begin{verbatim}\n% gone\n% \\end{verbatim}\nb", "b"),
        ("a\u2028b % gone\u2028too\nc", "a\u2028b\nc"),
        ("\\begin{verbatim} never ends % gone", "\\begin{verbatim} never ends"),
    ],
)
def test_comments_go_and_what_only_looks_like_them_stays(text, expected):
    assert without_comments(text) == expected


@pytest.mark.parametrize(
    ("definitions", "text", "expected"),
    [
        (r"\newcommand{\R}{\mathbb{R}}", r"$x \in \R^n$, \Real", r"$x \in \mathbb{R}^n$, \Real"),
        (r"\newcommand\eps\relax", r"\eps", r"\newcommand\eps\relax\eps"),
        (r"\newcommand\eps{\varepsilon}", r"\eps x", r"\varepsilon x"),
        (r"\newcommand{\norm}[1]{\|#1\|}", r"\norm{x} \norm y \norm{\norm{z}}", r"\|x\| \|y\| \|\|z\|\|"),
        (r"\newcommand*{\p}[2][x]{\partial_{#1} #2}", r"\p{f} \p[y]{g}", r"\partial_{x} f \partial_{y} g"),
        (r"\def\pair#1#2{(#1,#2)}", r"\pair{a}{b} \pair\alpha\beta", r"(a,b) (\alpha,\beta)"),
        (r"\newcommand{\v}[1]{\vec}", r"\v{x}y", r"\vec y"),
        (r"\DeclareMathOperator{\Hom}{Hom}", r"\Hom(A,B)", r"\operatorname{Hom}(A,B)"),
        (r"\newcommand{\A}{\B\B}\newcommand{\B}{b}", r"\A", "bb"),
        (r"\newcommand{\A}{\B}\newcommand{\B}{\A x}", r"\A", r"\A x"),
        (r"\renewcommand{\epsilon}{\varepsilon}", r"\epsilon \\epsilon", r"\varepsilon \\epsilon"),
        (r"\def\x#1.{#1}", r"\x a.", r"\def\x#1.{#1}\x a."),
        (r"\newcommand{\w}{\if a b\fi}", r"\w", r"\newcommand{\w}{\if a b\fi}\w"),
        (r"\newcommand{\R}{r}", r"\begin{verbatim}\R\end{verbatim}", r"\begin{verbatim}\R\end{verbatim}"),
    ],
)
def test_macros_are_written_out_as_tex_would(definitions, text, expected):
    assert expanded(definitions + text) == expected


def test_a_macro_bomb_and_deep_nesting_leave_a_bounded_text():
    bomb = (
        r"\def\a{x}" + "".join(f"\\def\\{chr(98 + i)}{{{f'{chr(92)}{chr(97 + i)}' * 10}}}" for i in range(20)) + r"\u"
    )
    assert expanded(bomb) == bomb
    nested = r"\newcommand{\n}[1]{(#1)}" + r"\n{" * 5000 + "}" * 5000
    assert len(expanded(nested)) < 5 * len(nested)


def test_a_paper_is_what_stands_between_first_section_and_bibliography():
    paper = r"""\documentclass{article} % class
\newcommand{\R}{\mathbb{R}}
\begin{document}
\title{T}\begin{abstract}Abstract.\end{abstract}
\section*{Introduction} % begins
Over $\R$.



\subsection{More}
End.
\begin{thebibliography}{9}
\bibitem{a} Reference.
\end{thebibliography}
\end{document}
"""
    expected = "\\section*{Introduction}\nOver $\\mathbb{R}$.\n\n\\subsection{More}\nEnd."
    assert text_of(Arxiv(), paper) == expected
    assert text_of(Arxiv(), expected) == expected
    assert text_of(Arxiv(), "\\begin{document}\nShort note.\n\\bibliographystyle{a}\n\\bibliography{b}") == (
        "Short note.\n\\bibliographystyle{a}"
    )
    assert reason(Arxiv(need_section=True), "no section at all") == "no section"
    assert reason(Arxiv(), "\\begin{document}\\bibliography{b}").startswith("nothing between")


# code


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("# Copyright 2020 Somebody\n# Licensed under the Apache License\n\n", ""),
        ("#!/usr/bin/env python\n# Copyright 2020 Somebody\n\n", "#!/usr/bin/env python\n"),
        ("/* Permission is hereby granted, free of charge */\n\n// SPDX-License-Identifier: MIT\n", ""),
        ("<!-- All rights reserved -->\n", ""),
        ("# What this does.\n# In two lines.\n", "# What this does.\n# In two lines.\n"),
        ("/* never closed, copyright\n", "/* never closed, copyright\n"),
        ('"""A module.\n\n:copyright: somebody\n"""\n', '"""A module.\n\n:copyright: somebody\n"""\n'),
    ],
)
def test_comments_on_licence_at_the_top_go_and_others_stay(header, kept):
    assert text_of(Github(), header + CODE) == kept + CODE
    assert text_of(Github(), kept + CODE) == kept + CODE


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        (CODE + "x" * 1001, {}, "long line"),
        ("a" * 500 + "\n" + "b" * 500, {}, "long lines in the mean"),
        ("+-*/\n" * 50 + "ab", {}, "few alphanumeric characters"),
        ("0x3f, 12,\n" * 50, {}, "few letters per token"),
        ("# Generated by the protocol compiler. DO NOT EDIT.\n" + CODE, {}, "generated"),
        ("# Copyright\n", {}, "empty"),
        (CODE, {"license": "GPL-3.0"}, "licence"),
        (CODE, {"extra": {"path": "a/b.exe"}}, "extension"),
    ],
)
def test_source_that_nobody_would_read_or_may_use_goes(text, fields, expected):
    assert reason(Github(), text, **fields) == expected


def test_permissive_licences_and_known_extensions_pass():
    assert text_of(Github(), CODE, license="MIT", extra={"path": "src/Makefile"}) == CODE
    assert reason(Github(need_license=True), CODE) == "licence"
    assert text_of(Github(licenses=(), extensions=()), CODE, license="GPL-3.0", extra={"path": "a.exe"}) == CODE


# questions and answers


def test_a_question_is_followed_by_its_answers_the_best_first():
    answers = [
        {"text": "<p>Low</p>", "score": -1},
        {"body": "<p>Use <code>a &lt; b</code>:</p><pre><code>if a:\n    b()\n</code></pre>", "score": 7},
        {"text": "<ul><li>one</li><li>two</li></ul>", "pm_score": 3},
        {"text": "  ", "score": 99},
        "broken",
    ]
    extra = {"title": "Why &amp; how?", "answers": answers, "site": "unix.stackexchange.com"}
    found = clean(StackExchange(), "<p>First<br>line.</p><!-- x --><p>Second</p>", extra=extra)
    assert found.text == (
        "Q: Why & how?\n\nFirst\nline.\n\nSecond\n\nA: Use a < b:\n\nif a:\n    b()\n\nA: - one\n- two\n\nA: Low"
    )
    assert found.extra == {"title": "Why &amp; how?", "site": "unix.stackexchange.com"}
    best = clean(StackExchange(lowest_score=0, most_answers=1), "<p>q</p>", extra=extra)
    assert best.text.count("A: ") == 1
    assert "Low" not in best.text


def test_answers_may_hold_what_no_text_and_no_score_may():
    answers = [
        {"text": "half \ud800", "score": 10**400},
        {"text": "best", "score": 1},
        {"text": "odd", "score": math.nan},
    ]
    found = clean(StackExchange(), "q", extra={"title": "\udc00", "answers": answers})
    assert found.text == "Q: ?\n\nq\n\nA: best\n\nA: half ?\n\nA: odd"


def test_questions_of_other_sites_or_without_answers_go():
    assert reason(StackExchange(), "<p>q</p>") == "no answer"
    assert text_of(StackExchange(need_answer=False), "<p>q</p>") == "Q: q"
    stage = StackExchange(sites=("stackoverflow.com",), need_answer=False)
    assert reason(stage, "q", url="https://math.stackexchange.com/q/1") == "site"
    assert text_of(stage, "q", url="https://stackoverflow.com/q/1") == "Q: q"
    assert reason(stage, "q", url="http://[broken") == "site"


# wikitext

ARTICLE = """{{Infobox
| name = {{nowrap|x}}
|}}
'''Ada''' was a [[mathematician|''mathematician'']]<ref name="a">Book, p. 1</ref> in [[London]].<ref name="a" />
[[File:Ada.jpg|thumb|A [[portrait]] of her]]
<!-- hidden -->
== Life ==
* born in [http://example.org the city]
{| class="wikitable"
| cell || [[link]]
|}
See&nbsp;<math>x^2</math>, [[:Category:Poets]].
== See also ==
* [[Babbage]]
=== Deeper ===
* x
== Work ==
Notes.
[[Category:People]] [[de:Ada]]
"""


def test_an_article_is_its_prose_with_headings_and_lists():
    expected = (
        "Ada was a mathematician in London.\n\nLife\n- born in the city\n\nSee\xa0x^2, Category:Poets.\nWork\nNotes."
    )
    assert text_of(Wikipedia(), ARTICLE) == expected
    assert text_of(Wikipedia(), expected) == expected
    assert "Babbage" in text_of(Wikipedia(apparatus=()), ARTICLE)


def test_redirects_other_languages_and_pages_without_prose_go():
    assert reason(Wikipedia(), "#REDIRECT [[Ada]]") == "redirect"
    assert reason(Wikipedia(), "text", language="ja") == "language"
    assert text_of(Wikipedia(), "text", language="pt-BR") == "text"
    assert reason(Wikipedia(), "{{disambiguation}}\n[[Category:X]]") == "no prose"


@pytest.mark.parametrize("mark", ["{{", "[[", "{|", "<ref>", "<!--", "[http://a ", "}}", "|}"])
def test_a_mark_that_is_never_closed_swallows_nothing(mark):
    assert "after it" in text_of(Wikipedia(), f"before\n{mark}after it\n\nand the end")


# books

BOOK = "CHAPTER I\n\n    It was a dark night.\n\n[Illustration: A ship]\n\nThe end."


def test_a_book_is_left_without_the_library_around_it():
    text = (
        "The Project Gutenberg EBook of X\n\nTitle: X\n\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\n\n"
        "Produced by A. Person and B. Person\n\n[Transcriber's Note: spelling kept.]\n\n"
        f"{BOOK}\n\nEnd of the Project Gutenberg EBook of X\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\nlicence"
    )
    expected = "CHAPTER I\n\n    It was a dark night.\n\n\nThe end."
    assert text_of(Books(), text) == expected
    assert text_of(Books(), expected) == expected
    assert "[Illustration: A ship]" in text_of(Books(strip_illustrations=False), text)
    assert reason(Books(), "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\n") == "nothing but the library's own text"


def test_small_print_behind_a_book_does_not_cost_the_book():
    print_ = (
        "***START**THE SMALL PRINT!**\nliability\n*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"
    )
    ends = f"{BOOK}\n\nEnd of Project Gutenberg's X\n{print_}"
    expected = "CHAPTER I\n\n    It was a dark night.\n\n\nThe end."
    assert text_of(Books(), f"Note\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n{ends}") == expected
    assert text_of(Books(), ends) == expected


def test_a_book_that_has_nothing_around_it_is_the_same_document():
    document = Document("CHAPTER I\n\nText.\n", "p")
    assert Books().judge_one(document) is document


# pages


def test_pages_of_html_become_their_text_and_others_pass():
    pytest.importorskip("trafilatura")
    sentence = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 5
    page = f"<!DOCTYPE html><html><body><nav>Menu</nav><article><p>{sentence}</p></article></body></html>"
    found = clean(Html(), page, extra={"format": "html", "n": 1})
    assert sentence.strip() in found.text
    assert "Menu" not in found.text
    assert found.extra == {"n": 1}
    assert text_of(Html(), page) == found.text
    assert text_of(Html(), "plain < text") == "plain < text"
    assert reason(Html(), "<html></html>") == "no text in the page"


# all of them


@pytest.mark.parametrize(
    "unit", ["{", "}", "\\x{", "{{", "[[", "{|\n", "<ref>", "<pre>", "<a ", "<!--", "[http://a b ", "%", "$"]
)
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_time_is_linear_whatever_the_text(stage, unit):
    start = time.process_time()
    clean(stage, "\\newcommand{\\x}[1]{#1#1}\n" + unit * (300_000 // len(unit)))
    assert time.process_time() - start < 4


@pytest.mark.parametrize(
    "unit", ["\\x", "\\begin{verbatim}", "\\verb|", "[Illustration", "\n \n", " ", "''", "==a\n", "/*", "(*"]
)
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_time_is_linear_for_marks_of_each_source(stage, unit):
    start = time.process_time()
    clean(stage, "\\def\\x{\\y\\y}\\def\\y{\\z\\z}\n" + unit * (200_000 // len(unit)) + "x")
    assert time.process_time() - start < 4


MARKS = [
    "{",
    "}",
    "\\R",
    "\\def\\R{x}",
    "\\section{a}",
    "%",
    "\n",
    " ",
    "a",
    "{{",
    "}}",
    "[[",
    "]]",
    "|",
    "<p>",
    "&lt;",
    "==",
    "# ",
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STAGES), st.lists(st.sampled_from(MARKS), max_size=30).map("".join))
def test_any_text_gets_a_verdict(stage, text):
    verdict = clean(stage, text)
    if isinstance(verdict, Document):
        assert verdict.text.strip()
        assert verdict.place == "p"
    else:
        assert verdict.document.text == text


@given(st.text(alphabet="ab <>/p&;!-", max_size=60))
def test_markup_is_stripped_from_any_text(text):
    assert "<p>" not in plain_text(text)


@pytest.mark.skipif(not SHARED.exists(), reason="no shared corpus")
def test_real_latex_and_books_are_cleaned_once_and_for_all():
    for stage, name in ((Arxiv(), "math/planetmath.jsonl.zst"), (Books(), "heldout/sample-general.jsonl.zst")):
        for document in list(read(SHARED / name))[:60]:
            once = stage.judge_one(document)
            if isinstance(once, Document):
                assert stage.judge_one(once) == once
