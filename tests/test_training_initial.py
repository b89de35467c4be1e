"""A run that begins with somebody's weights begins with exactly those, says so, and refuses others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from isoflop.cli import run
from isoflop.model.export import export_hub, export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.schedule import BatchRamp, ContextRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.tokens import Tokenizer
from isoflop.tokens.hub import hub_files
from isoflop.training import checkpoint
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.parts import Weights
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer
from isoflop.training.weights import open_weights

Make = Callable[..., TrainConfig]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def first(tiny_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is finished, of the shape that ``tiny_config`` gives, with two checkpoints."""
    config = TrainConfig(
        shape=Shape(2, 16, 2, 1, 32, 300, context=32),
        data=str(tiny_tokens),
        schedule=Schedule(tokens=4096, peak=0.01, warmup_tokens=256, decay_tokens=1024),
        batch=BatchRamp(512),
        precision="fp32",
        compile="never",
        validation_tokens=1024,
        keep=(2048,),
    )
    path = tmp_path_factory.mktemp("runs") / "first"
    train(config, path)
    return path


@pytest.fixture
def model(tiny_config: Make) -> Llama:
    return Llama(tiny_config().shape).initialise(7)


def started(config: TrainConfig, path: Path) -> Trainer:
    run = Run(path)
    run.start(config)
    return Trainer.build(config, run)


def assert_has(trainer: Trainer, model: Llama) -> None:
    for (name, ours), theirs in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


class TestBeginning:
    def test_with_a_hugging_face_folder_is_with_its_weights(
        self, tiny_config: Make, model: Llama, tmp_path: Path
    ) -> None:
        export_hub(Held(model), tmp_path / "hf", dtype=torch.float32, shard_bytes=20_000)
        trainer = started(tiny_config(initial="../hf"), tmp_path / "run")
        assert_has(trainer, model)
        record = json.loads((tmp_path / "run" / "initial.json").read_text())
        assert record["path"] == "../hf"
        file = sorted((tmp_path / "hf").glob("*.safetensors"))[0]
        assert record["files"][file.name] == checkpoint.checksum(file)

    @pytest.mark.parametrize("tokens", [4096, 2048])
    def test_with_a_run_or_one_of_its_checkpoints_is_with_theirs(
        self, tokens: int, first: Path, tiny_config: Make, tmp_path: Path
    ) -> None:
        initial = first if tokens == 4096 else checkpoint.folder(first, tokens)
        trainer = started(tiny_config(initial=str(initial)), tmp_path / "run")
        expected = Llama(tiny_config().shape)
        checkpoint.load_weights(checkpoint.folder(first, tokens), expected)
        assert_has(trainer, expected)
        assert trainer.progress.tokens == 0

    def test_goes_on_from_its_own_checkpoint_even_when_the_weights_are_gone(
        self, tiny_config: Make, model: Llama, tmp_path: Path
    ) -> None:
        export_ours(Held(model), tmp_path / "ours")
        config = tiny_config(initial=str(tmp_path / "ours"), schedule=Schedule(tokens=1024, peak=0.01))
        whole = train(config, tmp_path / "whole")
        trainer = started(config, tmp_path / "run")
        trainer.step()
        trainer.save()
        (tmp_path / "ours" / "shape.json").unlink()
        again = train(config, tmp_path / "run")
        assert again["validation_loss"] == whole["validation_loss"]

    def test_lowers_the_first_loss_and_random_weights_do_not(
        self, first: Path, tiny_config: Make, tmp_path: Path
    ) -> None:
        (line, _), (random, _) = (
            started(tiny_config(initial=initial), tmp_path / str(initial is None)).step()
            for initial in (str(first), None)
        )
        assert line["loss"] < random["loss"] - 0.5


def test_a_checkpoint_has_the_context_that_it_was_trained_at(tiny_config: Make, model: Llama, tmp_path: Path) -> None:
    config = tiny_config(context=ContextRamp(16, (1024,)))
    Run(tmp_path).start(config)
    for tokens, context in ((1024, 16), (1152, 32)):
        path = checkpoint.save(tmp_path, checkpoint.Progress(tokens, 1, 0.0), {"model": Weights(model)})
        assert open_weights(path).shape == replace(config.shape, context=context)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"ffn": 40}, "theirs → this run's: shape.ffn: 40 → 32"),
            ({"vocab": 301}, "shape.vocab: 301 → 300"),
            ({"tied": False}, "shape.tied: False → True"),
            ({"rope_theta": 5e5}, "shape.rope_theta: 500000.0 → 10000.0"),
        ],
    )
    def test_another_shape_is_refused_by_its_field(
        self, change: dict[str, Any], words: str, tiny_config: Make, tmp_path: Path
    ) -> None:
        shape = replace(tiny_config().shape, **change)
        export_ours(Held(Llama(shape).initialise(0)), tmp_path / "ours")
        with pytest.raises(ValueError, match=words):
            started(tiny_config(initial=str(tmp_path / "ours")), tmp_path / "run")

    def test_another_context_is_not_refused(self, tiny_config: Make, tmp_path: Path) -> None:
        longer = Llama(replace(tiny_config().shape, context=128)).initialise(0)
        export_ours(Held(longer), tmp_path / "ours")
        assert_has(started(tiny_config(initial=str(tmp_path / "ours")), tmp_path / "run"), longer)

    def test_weights_that_changed_before_the_first_checkpoint(
        self, tiny_config: Make, model: Llama, tmp_path: Path
    ) -> None:
        config = tiny_config(initial=str(tmp_path / "ours" / "a"))
        export_ours(Held(model), tmp_path / "ours" / "a")
        started(config, tmp_path / "run")
        (tmp_path / "ours" / "a").rename(tmp_path / "ours" / "b")
        export_ours(Held(model.initialise(8)), tmp_path / "ours" / "a")
        with pytest.raises(ValueError, match="are not those that .* began with"):
            started(config, tmp_path / "run")

    def test_a_branch_has_its_trunks_weights(self, tiny_config: Make) -> None:
        with pytest.raises(ValueError, match="give either branch or initial"):
            tiny_config(initial="x", branch=Branch("../trunk", 1024))


class TestCommands:
    def test_a_run_goes_to_transformers_and_back_into_a_run(
        self, first: Path, tiny_config: Make, tmp_path: Path, capsys: Capture
    ) -> None:
        transformers = pytest.importorskip("transformers")
        arguments = ["--out", str(tmp_path / "hf"), "--dtype", "fp32", "--shard-size", "10KB"]
        assert run("export", [str(first), *arguments]) == 0
        assert "model-00002-of-0000" in capsys.readouterr().out
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
        ids = tokenizer("law of compute", return_tensors="pt")["input_ids"]
        config = Run(first).config
        model = Llama(config.shape)
        checkpoint.load_weights(checkpoint.folder(first, 4096), model)
        with torch.no_grad():
            torch.testing.assert_close(model(ids), theirs(ids).logits, atol=2e-5, rtol=1e-4)
        assert theirs.generation_config.eos_token_id == tokenizer.eos_token_id
        assert run("import", [str(tmp_path / "hf"), "--out", str(tmp_path / "back"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tokenizer"] == "bpe"
        assert_has(started(replace(config, initial="../back"), tmp_path / "again"), model)

    def test_a_corpus_is_prepared_for_an_imported_model(self, first: Path, tmp_path: Path) -> None:
        assert run("export", [str(first), "--out", str(tmp_path / "hf")]) == 0
        corpus = tmp_path / "a.jsonl"
        corpus.write_text("".join(f'{{"text": "document {i} of laws and tokens"}}\n' for i in range(50)))
        arguments = ["--corpus", str(corpus), "--out", str(tmp_path / "tokens"), "--tokenizer", str(tmp_path / "hf")]
        assert run("prepare", arguments) == 0
        ours, theirs = (Tokenizer.load(path) for path in (Run(first).config.data, tmp_path / "tokens"))
        assert ours.encode("tokens of laws") == theirs.encode("tokens of laws")

    def test_gguf_goes_out_and_in(self, first: Path, tmp_path: Path, capsys: Capture) -> None:
        gguf = pytest.importorskip("gguf")
        out = tmp_path / "a.gguf"
        assert run("export", [str(first), "--out", str(out), "--format", "gguf", "--dtype", "fp32"]) == 0
        fields = gguf.GGUFReader(out).fields
        assert len(fields["tokenizer.ggml.tokens"].contents()) == 300
        assert run("import", [str(out), "--out", str(tmp_path / "back")]) == 0
        assert "[shape]\nlayers = 2\n" in capsys.readouterr().out
        one, other = open_weights(tmp_path / "back"), open_weights(first)
        assert one.shape == other.shape
        assert torch.equal(one.rows("blocks.1.qkv"), other.rows("blocks.1.qkv"))

    def test_dry_runs_write_nothing(self, first: Path, tmp_path: Path, capsys: Capture) -> None:
        before = sorted(tmp_path.iterdir())
        for command in ("export", "import"):
            assert run(command, [str(first), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
            assert "would be written" in capsys.readouterr().out
        assert run("export", [str(first), "--out", str(tmp_path / "x"), "--dry-run", "--json", "--format", "gguf"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["bytes"] > 2 * told["parameters"]
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--dtype", "q8_0"], "has no q8_0; use --dtype bf16, or --format gguf"),
            (["--shard-size", "big"], "--shard-size is 'big'"),
            (["--shard-size", "0.1B"], "--shard-size is '0.1B'"),
            (["--format", "gguf", "--dtype", "q8_0"], "has rows of 16; use bf16"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(
        self, first: Path, arguments: list[str], words: str, tmp_path: Path, capsys: Capture
    ) -> None:
        assert run("export", [str(first), "--out", str(tmp_path / "out"), *arguments]) == 1
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_tokenizer_that_changes_texts_is_left_out_and_said(
        self, first: Path, tmp_path: Path, capsys: Capture
    ) -> None:
        export_hub(open_weights(first), tmp_path / "hf", beside=hub_files(Tokenizer.load(Run(first).config.data), 32))
        file = tmp_path / "hf" / "tokenizer.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))
        assert run("import", [str(tmp_path / "hf"), "--out", str(tmp_path / "back")]) == 0
        assert "without a tokenizer: " in (said := capsys.readouterr().out)
        assert "does not keep texts as they are" in said
        assert not (tmp_path / "back" / "tokenizer.json").exists()
