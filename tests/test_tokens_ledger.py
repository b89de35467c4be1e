"""The ledger says what weights mean in passes over sources, forward and backward, as published tables do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cli import dispatch
from isoflop.cli import ledger as command
from isoflop.tokens.blended import blended_loaders, open_sources
from isoflop.tokens.ledger import Ledger
from isoflop.tokens.mixture import Blend, Mixture, Source

# LLaMA-1, arXiv 2302.13971, Table 1: percent, epochs of 1.4T tokens; and billions of unique tokens, rounded.
LLAMA = {
    "CommonCrawl": (67.0, 1.10, 853),
    "C4": (15.0, 1.06, 198),
    "GitHub": (4.5, 0.64, 98),
    "Wikipedia": (4.5, 2.45, 26),
    "Books": (4.5, 2.23, 28),
    "ArXiv": (2.5, 1.06, 33),
    "StackExchange": (2.0, 1.03, 27),
}


def llama(billions: Callable[[str], float]) -> Ledger:
    sources = tuple(Source(name, name) for name in LLAMA)
    mixture = Mixture.constant(sources, {name: percent for name, (percent, _, _) in LLAMA.items()})
    return Ledger(mixture, {name: 1e9 * billions(name) for name in LLAMA})


def test_llama_table_one_is_reproduced() -> None:
    """Within what the rounding of unique tokens to a billion and of epochs to two decimals leaves."""
    least, most = (llama(lambda name, d=d: LLAMA[name][2] + d).entries(1.4e12) for d in (0.5, -0.5))
    for low, high in zip(least, most, strict=True):
        percent, epochs, _ = LLAMA[low.name]
        assert low.share == pytest.approx(percent / 100)
        assert low.epochs - 0.005 <= epochs <= high.epochs + 0.005
    for name in ("CommonCrawl", "C4", "GitHub", "ArXiv"):  # whose rounding does not show
        (entry,) = (e for e in llama(lambda n: LLAMA[n][2]).entries(1.4e12) if e.name == name)
        assert entry.epochs == pytest.approx(LLAMA[name][1], abs=0.006)


def test_backward_the_table_gives_its_total() -> None:
    """With as much of each source as the table's epochs say, reading none more than Wikipedia's 2.45 is 1.4T tokens."""
    ledger = llama(lambda name: 1400 * LLAMA[name][0] / 100 / LLAMA[name][1])
    total, scarce = ledger.largest(2.45)
    assert (total, scarce) == (pytest.approx(1.4e12), "Wikipedia")
    assert [round(entry.epochs, 2) for entry in ledger.entries(total)] == [epochs for _, epochs, _ in LLAMA.values()]


NAMES = ("a", "b", "c")


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    weights = st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 10), min_size=1)
    starts = [0, *sorted(draw(st.sets(st.integers(1, 10_000), max_size=3)))]
    mixture = Mixture(tuple(Source(n, n) for n in NAMES), tuple(Blend(at, draw(weights)) for at in starts))
    return Ledger(mixture, {name: draw(st.integers(1, 5000)) for name in NAMES})


@given(ledgers(), st.floats(0.1, 8))
def test_largest_run_below_a_cap_reaches_it_and_no_run_below_passes_it(ledger: Ledger, cap: float) -> None:
    total, scarce = ledger.largest(cap)
    if total == math.inf:
        assert scarce not in ledger.mixture.blends[-1].weights
        total = 1e6
    else:
        (entry,) = (e for e in ledger.entries(total) if e.name == scarce)
        assert entry.epochs == pytest.approx(cap)
    assert max(entry.epochs for entry in ledger.entries(total)) <= cap * (1 + 1e-9)
    assert math.fsum(entry.drawn for entry in ledger.entries(total)) == pytest.approx(total)


def test_ledger_counts_what_the_loader_deals(tmp_path: Path, write_tokens: Callable[..., Path]) -> None:
    for number, name in enumerate("ab"):
        write_tokens(tmp_path / name, [[number, i % 200] * 20 for i in range(60)])
    mixture = Mixture(
        (Source("a", "a"), Source("b", "b", tokens=640)), (Blend(0, {"a": 1, "b": 1}), Blend(999, {"a": 1}))
    )
    datasets = open_sources(mixture.sources, tmp_path)
    ledger = Ledger.of(mixture, datasets)
    assert ledger.available == {"a": 59 * 42, "b": 640}
    dealt = blended_loaders(datasets, mixture, [(0, math.inf, 32)], 0)[32].sources(0, 100)
    for number, entry in enumerate(ledger.entries(3200)):
        assert abs(32 * int((dealt == number).sum()) - entry.drawn) <= 2 * 32


def test_command_prints_forward_and_backward(capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{name}={percent}:{unique}e9" for name, (percent, _, unique) in LLAMA.items()]
    command.main([*words, "--tokens", "1.4e12", "--cap", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["CommonCrawl", "0.6700", "853,000,000,000", "938,000,000,000", "1.10"]
    assert lines[-1] == ("at most 2 passes over every source: a run of 1,155,555,555,556 tokens, where Wikipedia ends")
    command.main([*words, "--cap", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == found["largest"] == pytest.approx(2 * 26e9 / 0.045)
    with pytest.raises(ValueError, match="'web=1' is not NAME=WEIGHT:TOKENS"):
        command.main(["web=1"])


def test_source_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' has no tokens"):
        Ledger(Mixture.constant((Source("a", "a"),), {"a": 1}), {"a": 0})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "which mixture?"),
        ("web=1:5 web=2:6", "the source 'web' is given twice"),
        ("web=1:5 --cap 0", "--cap is 0: it must be above 0"),
        ("web=1:5 --tokens -4", "--tokens is -4: it must be above 0"),
        ("web=1:5 --tokens 0", "--tokens is 0: it must be above 0"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["ledger", *words.split()]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
