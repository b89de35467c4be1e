"""The command line says in one sentence what is wrong, where, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from isoflop import config as configuration
from isoflop.cli import COMMANDS, run
from isoflop.training.config import TrainConfig

Capture = pytest.CaptureFixture[str]


def prepare(corpus: Path, out: Path) -> int:
    return run("prepare", ["--corpus", str(corpus), "--vocab-size", "300", "--out", str(out)])


def failing_corpus(kind: str, folder: Path) -> Path:
    """A corpus that cannot be used, of a given kind."""
    folder.mkdir()
    if kind == "empty file":
        (folder / "a.txt").write_text("")
    elif kind == "no text file":
        (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    elif kind == "binary":
        (folder / "a.txt").write_bytes(bytes(range(256)) * 100)
    elif kind == "truncated":
        text = "".join(f'{{"text": "document {i} {i * i}"}}\n' for i in range(20_000))
        data = zstandard.ZstdCompressor().compress(text.encode())
        (folder / "a.jsonl.zst").write_bytes(data[: len(data) // 2])
    elif kind == "missing":
        return folder / "nowhere"
    return folder


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty file", "holds no document"),
        ("no text file", ".jsonl.zst"),
        ("binary", "a.txt"),
        ("truncated", "a.jsonl.zst"),
        ("missing", "nowhere"),
    ],
)
def test_bad_corpus_gets_a_sentence_and_no_traceback(kind: str, words: str, tmp_path: Path, capsys: Capture) -> None:
    assert prepare(failing_corpus(kind, tmp_path / "corpus"), tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert words in errors
    assert "Traceback" not in errors
    assert errors.startswith("isoflop: ")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_prepare_says_how_many_records_it_left_out(tmp_path: Path, capsys: Capture) -> None:
    lines = [f'{{"text": "document {i}: the quick brown fox jumps over the lazy dog"}}\n' for i in range(100)]
    corpus = tmp_path / "a.jsonl"
    corpus.write_text("".join([*lines, "broken\n"]))
    assert prepare(corpus, tmp_path / "out") == 0
    assert f"1 bad record of 101 records: {tmp_path / 'out' / 'manifest.json'} says why" in capsys.readouterr().out


def test_unknown_command_suggests_the_nearest(capsys: Capture) -> None:
    assert run("quikstart", []) == 2
    assert "did you mean quickstart?" in capsys.readouterr().err


def test_unknown_config_key_suggests_the_nearest(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, capsys: Capture
) -> None:
    text = configuration.dumps(tiny_config()).replace("micro_tokens", "micro_token")
    (tmp_path / "run.toml").write_text(text)
    assert run("train", [str(tmp_path / "run"), "--config", str(tmp_path / "run.toml")]) == 1
    assert "unknown key 'micro_token'; did you mean 'micro_tokens'?" in capsys.readouterr().err


def test_dry_run_of_a_training_run_says_what_follows_and_does_nothing(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "run.toml").write_text(configuration.dumps(tiny_config()))
    assert run("train", [str(tmp_path / "run"), "--config", str(tmp_path / "run.toml"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "steps       20 for 4,096 tokens" in out
    assert not (tmp_path / "run").exists()


def test_finished_run_is_not_trained_again(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "run.toml").write_text(configuration.dumps(tiny_config()))
    arguments = [str(tmp_path / "run"), "--config", str(tmp_path / "run.toml")]
    assert run("train", arguments) == 0
    first = capsys.readouterr().out
    assert "validation loss" in first
    assert run("train", [str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == first


def test_plan_of_a_folder_without_a_sweep_says_so(tmp_path: Path, capsys: Capture) -> None:
    assert run("plan", ["1e14", "--sweep", str(tmp_path)]) == 1
    assert "sweep.toml" in capsys.readouterr().err


@pytest.fixture(scope="module")
def explained() -> dict[str, tuple[str, bool]]:
    """What every command says when asked for help, and whether torch was loaded by then, all in one process."""
    code = """
import contextlib, io, json, sys
from isoflop.cli import COMMANDS, run
found = {}
for command in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        run(command, ["--help"])
    found[command] = told.getvalue(), "torch" in sys.modules
print(json.dumps(found))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, tuple[str, bool]] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples_without_loading_torch(
    command: str, explained: dict[str, tuple[str, bool]]
) -> None:
    told, torch_was_loaded = explained[command]
    assert "examples:" in told
    assert f"isoflop {command}" in told
    assert not torch_was_loaded


def test_usage_lists_every_command() -> None:
    result = subprocess.run([sys.executable, "-m", "isoflop", "--help"], capture_output=True, text=True, check=True)
    assert all(name in result.stdout for name in COMMANDS)


def test_laws_and_planning_never_load_torch() -> None:
    code = "import sys, isoflop.laws, isoflop.planning.from_sweep, isoflop.sweeps.fit; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
