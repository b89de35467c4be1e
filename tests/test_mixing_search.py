"""A search trains every proxy once, goes on after a kill to the same answer, and writes a mixture a run can read."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from isoflop import config as configuration
from isoflop.cli.mix import folders as sources_of
from isoflop.cli.mix import main, shares, told
from isoflop.mixing.layout import lay_out, proxies
from isoflop.mixing.request import Request, largest, resolve, within
from isoflop.mixing.search import Chosen, search
from isoflop.mixing.settings import MixConfig
from isoflop.tokens.blended import open_sources
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.speed import Speed

WORDS = {
    "laws": ["law", "compute", "token", "model", "loss", "budget", "scale", "predict", "curve", "fit"],
    "sums": ["12", "7", "plus", "times", "equals", "305", "minus", "48", "is", "961"],
}


def write_corpus(folder: Path, words: list[str], files: int, seed: int) -> Path:
    folder.mkdir()
    rng = random.Random(seed)
    for i in range(files):
        lines = [" ".join(rng.choices(words, k=12)) + "." for _ in range(60)]
        (folder / f"{i:02d}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two sources and a held-out text, half of each kind, all with one tokenizer of 300 ids."""
    base = tmp_path_factory.mktemp("mix")
    both = WORDS["laws"] + WORDS["sums"]
    prepare(PrepareConfig(str(write_corpus(base / "both", both, 20, 0)), 300, 0.1), base / "exam")
    tokenizer = str(base / "exam" / "tokenizer.json")
    for seed, (name, words) in enumerate(WORDS.items(), 1):
        text = write_corpus(base / f"{name}-text", words, 12 * seed, seed)
        prepare(PrepareConfig(str(text), 300, 0.1, tokenizer=tokenizer), base / name)
    return {name: str(base / name) for name in ("laws", "sums", "exam")}


def ask(folders: dict[str, str], **changes: object) -> Request:
    sources = {name: folders[name] for name in WORDS}
    request = Request(sources, {"sums": 1.0}, proxies=5, parameters=22_000, tokens=16_384, context=32)
    return replace(request, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def config(folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> MixConfig:
    found = resolve(ask(folders), tmp_path_factory.mktemp("nothing"), [0])
    return replace(found, replicates=20, validation_tokens=1024)


@pytest.fixture(scope="module")
def finished(config: MixConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "mix"
    search(config, folder, workers=1)
    return folder


def test_every_proxy_is_trained_on_its_mixture_and_measured_on_every_text(finished: Path, config: MixConfig) -> None:
    tried = proxies(finished)
    assert len(tried) == 5
    for proxy in tried:
        assert proxy.run.summary is not None
        assert proxy.losses is not None
        assert set(proxy.losses) == {"laws", "sums"}
        mixture = proxy.run.config.mixture
        assert mixture is not None
        assert tuple(source.tokens for source in mixture.sources) == config.limits
        assert not (proxy.run.path / "checkpoints").exists()
    by_name = {proxy.name: proxy.losses for proxy in tried}
    assert by_name["towards-sums"]["sums"] < by_name["towards-laws"]["sums"]  # type: ignore[index]
    assert by_name["towards-laws"]["laws"] < by_name["towards-sums"]["laws"]  # type: ignore[index]


def test_the_answer_says_weights_gains_and_doubts_and_a_run_can_read_its_mixture(
    finished: Path, config: MixConfig
) -> None:
    found = json.loads((finished / "summary.json").read_text())
    weights = [source["weight"] for source in found["sources"]]
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > config.natural[1]  # more of what the target is made of
    assert set(found["gains"]) == {"natural", "uniform"}
    assert found["predictors"][0]["spearman_left_out"] > 0.5
    assert any("too few runs" in status for status in found["statuses"])
    mixture = configuration.load(Chosen, finished / "mixture.toml").mixture
    assert list(mixture.final.values()) == pytest.approx(weights)
    assert list(open_sources(mixture.sources, Path("/"))) == list(config.names)
    assert all(source.tokens is None for source in mixture.sources)


@pytest.mark.slow
def test_killed_search_goes_on_to_the_same_answer(finished: Path, config: MixConfig, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = (
        "import sys; from pathlib import Path; from isoflop import config; from isoflop.mixing.search import search;"
        "from isoflop.mixing.settings import MixConfig;"
        "search(config.load(MixConfig, Path(sys.argv[1])), Path(sys.argv[2]), workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(finished / "mix.toml"), str(folder)])
    while process.poll() is None and len(list(folder.glob("proxies/*/losses.json"))) < 2:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("proxies/*/losses.json")}
    assert 2 <= len(stamps) < 5
    search(config, folder, workers=1)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    for name in ("summary.json", "mixture.toml"):
        assert (folder / name).read_text() == (finished / name).read_text()


def test_directory_of_another_search_is_refused(finished: Path, config: MixConfig) -> None:
    with pytest.raises(ValueError, match=r"holds another search \(strength"):
        lay_out(replace(config, strength=1.0), finished)


def test_report_is_one_page_that_names_every_source_and_proxy(finished: Path) -> None:
    pytest.importorskip("matplotlib")
    from isoflop.report.mix_page import write_page

    page = write_page(finished).read_text()
    for words in ("sums", "laws", "towards-laws", "over natural", "rank correlation"):
        assert words in page
    assert page == write_page(finished).read_text()
    assert "<script" not in page


# What is asked


def test_targets_are_sources_or_folders_that_no_proxy_trains_on(folders: dict[str, str], tmp_path: Path) -> None:
    config = resolve(ask(folders, target={folders["exam"]: 3.0, "laws": 1.0}), tmp_path, [0])
    assert [(text.name, text.split, text.share) for text in config.held_out] == [
        ("laws", "validation", 0.25),
        ("sums", "validation", 0.0),
        ("exam", "train", 0.75),
    ]
    with pytest.raises(ValueError, match="is the source sums"):
        resolve(ask(folders, target={folders["sums"]: 1.0}), tmp_path, [0])
    with pytest.raises(ValueError, match="neither a source"):
        resolve(ask(folders, target={"nothing": 1.0}), tmp_path, [0])
    with pytest.raises(ValueError, match="shares above 0"):
        resolve(ask(folders, target={"laws": 0.0}), tmp_path, [0])


def test_sources_with_two_tokenizers_are_refused(folders: dict[str, str], tiny_tokens: Path, tmp_path: Path) -> None:
    sources = {"laws": folders["laws"], "other": str(tiny_tokens)}
    with pytest.raises(ValueError, match="laws and other were prepared with different tokenizers"):
        resolve(ask(folders, sources=sources, target={"laws": 1.0}), tmp_path, [0])


def test_minutes_decide_the_size_and_are_kept_to() -> None:
    speed = Speed(base=5e-6, slope=5e-11, compile_seconds=10.0)
    request = Request({"a": "a", "b": "b"}, {"a": 1.0}, proxies=32, minutes=20.0)
    parameters, tokens = within(request, speed, 512, 128, workers=2)
    assert tokens == pytest.approx(20 * parameters)
    spent = 16 * (tokens + 2 * 65_536 / 3) * speed.seconds_per_token(parameters)
    assert 0.7 * 1200 < spent < 1200
    assert 20 * largest(30.0, speed) * speed.seconds_per_token(largest(30.0, speed)) == pytest.approx(30.0)
    _, given = within(replace(request, parameters=3e5), speed, 512, 128, workers=2)
    per_token, more = speed.seconds_per_token(3e5), 2 * 65_536 / 3
    assert (given + more) * per_token == pytest.approx((tokens + more) * speed.seconds_per_token(parameters))
    with pytest.raises(ValueError, match=r"0.5 minutes are too few for 32 proxies .*--minutes"):
        within(replace(request, minutes=0.5), speed, 512, 128, workers=2)
    with pytest.raises(ValueError, match="too few"):
        within(replace(request, parameters=3e6, tokens=1e9), speed, 512, 128, workers=2)


def test_a_begun_search_keeps_its_sizes_when_minutes_are_given_again(
    folders: dict[str, str], finished: Path, config: MixConfig
) -> None:
    again = resolve(ask(folders, parameters=None, tokens=None, context=None, minutes=1.0), finished, [0, 1])
    assert (again.parameters, again.tokens, again.context) == (config.parameters, config.tokens, config.context)


# The command


def test_dry_run_shows_every_mixture_and_trains_nothing(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [f"{name}={folders[name]}" for name in WORDS]
    size = ["--size", "22e3", "--tokens", "16384", "--context", "32", "--proxies", "6"]
    main(["--sources", *sources, "--target", "sums=0.5", folders["exam"], *size, "--out", str(tmp_path), "--dry-run"])
    said = capsys.readouterr().out
    assert "towards-sums" in said
    assert "6 proxies of" in said
    assert not list(tmp_path.iterdir())


def test_the_answer_in_words_has_shares_gains_and_where_the_mixture_is(finished: Path) -> None:
    found = json.loads((finished / "summary.json").read_text())
    said = told(found, finished)
    assert f"{found['sources'][1]['weight']:.1%}" in said
    assert "gain over the natural mixture" in said
    assert str(finished / "mixture.toml") in said


def test_sources_and_targets_that_cannot_be_read_are_said() -> None:
    assert shares(("math", "a=b=0.25")) == {"math": 1.0, "a=b": 0.25}
    assert sources_of(("code=tokens/code",)) == {"code": "tokens/code"}
    with pytest.raises(ValueError, match="NAME=SHARE"):
        shares(("code=much",))
    for wrong in (("code",), ("code=",), ("a=x", "a=y")):
        with pytest.raises(ValueError, match="NAME=FOLDER"):
            sources_of(wrong)
