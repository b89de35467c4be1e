"""Weights go out to Hugging Face folders and GGUF files and come back the same bits, one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from isoflop.model.export import DTYPES, export_hub, export_ours
from isoflop.model.hub import INDEX, open_hub
from isoflop.model.hub_config import from_config, to_config
from isoflop.model.llama import Llama
from isoflop.model.names import HUGGING_FACE, parameters, spans
from isoflop.model.source import Held, Lazy, Source
from isoflop.planning.experts import Experts
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape
from isoflop.training.weights import open_weights

transformers = pytest.importorskip("transformers")

SHAPES = {
    "Llama 2": Shape(2, 32, 4, 4, 96, 300, context=64, tied=False),
    "Llama 3": Shape(2, 64, 4, 2, 96, 300, context=64, tied=False, rope_theta=5e5),
    "Llama 3.1": Shape(
        2, 64, 4, 2, 96, 300, 256, tied=False, rope_theta=5e5, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64)
    ),
    "Llama 3.2": Shape(
        2, 64, 8, 2, 96, 300, 256, tied=True, rope_theta=5e5, rope_scaling=RopeScaling(32.0, 1.0, 4.0, 64)
    ),
}
each_llama = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def ids(shape: Shape) -> torch.Tensor:
    return torch.randint(shape.vocab, (2, shape.context), generator=torch.Generator().manual_seed(0))


def model_of(source: Source) -> Llama:
    model = Llama(source.shape)
    model.load_state_dict(dict(Lazy(source)))
    return model


def same_weights(one: Source, other: Source) -> None:
    assert one.shape == other.shape
    for name, tensor in Lazy(one).items():
        assert torch.equal(tensor, other.rows(name)), name


def reference(shape: Shape, dtype: torch.dtype = torch.float32) -> Any:
    """A random model of transformers'."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**to_config(shape), initializer_range=0.1)
    return transformers.LlamaForCausalLM(config).to(dtype)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A Llama 3.2 that transformers saved in several shards."""
    reference(SHAPES["Llama 3.2"]).save_pretrained(tmp_path / "theirs", max_shard_size="40KB")
    return tmp_path / "theirs"


@each_llama
class TestEachLlama:
    def test_transformers_computes_the_same_from_an_exported_model(self, shape: Shape, tmp_path: Path) -> None:
        model = Llama(shape).initialise(0)
        export_hub(Held(model), tmp_path / "out", dtype=torch.float32, shard_bytes=40_000)
        assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
        loaded, told = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]
        with torch.no_grad():
            torch.testing.assert_close(model(ids(shape)), loaded(ids(shape)).logits, atol=2e-5, rtol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_folder_of_transformers_computes_the_same_here(
        self, shape: Shape, dtype: torch.dtype, tmp_path: Path
    ) -> None:
        reference(shape, dtype).save_pretrained(tmp_path / "theirs", max_shard_size="40KB")
        source = open_hub(tmp_path / "theirs")
        assert source.shape == shape
        assert source.dtype("blocks.1.qkv") == dtype
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", torch_dtype=torch.float32)
        with torch.no_grad():
            expected = again(ids(shape)).logits
            torch.testing.assert_close(model_of(source)(ids(shape)), expected, atol=2e-5, rtol=1e-4)

    @pytest.mark.parametrize("dtype", ["fp32", "bf16", "f16"])
    def test_files_that_come_back_are_written_again_byte_for_byte(
        self, shape: Shape, dtype: str, tmp_path: Path
    ) -> None:
        export_hub(Held(Llama(shape).initialise(0)), tmp_path / "one", dtype=DTYPES[dtype], shard_bytes=50_000)
        export_ours(open_weights(tmp_path / "one"), tmp_path / "ours")
        same_weights(open_weights(tmp_path / "ours"), open_weights(tmp_path / "one"))
        export_hub(open_weights(tmp_path / "ours"), tmp_path / "two", dtype=DTYPES[dtype], shard_bytes=50_000)
        files = sorted(path.name for path in (tmp_path / "one").iterdir())
        assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
        for name in files:
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name

    def test_a_config_says_the_shape_in_the_old_spelling_and_in_transformers_5s(self, shape: Shape) -> None:
        config = to_config(shape)
        assert from_config(config) == shape
        rope = {"rope_type": "default"} | (config.pop("rope_scaling") or {})
        config["rope_parameters"] = rope | {"rope_theta": config.pop("rope_theta")}
        assert from_config(config) == shape


def test_a_model_without_key_value_heads_in_its_config_has_as_many_as_query_heads() -> None:
    config = to_config(SHAPES["Llama 2"])
    del config["num_key_value_heads"], config["rope_theta"]
    assert from_config(config) == SHAPES["Llama 2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"sliding_window": 4096}, "sliding_window is 4096"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"head_dim": 32}, r"head_dim is 32, not hidden_size / num_attention_heads = 8"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "stretched by 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "no low_freq_factor"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "stretched by 'yarn'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": None}, "a number is no number"),
        ({"hidden_size": 30}, "width 30 does not divide into 8 heads"),
    ],
)
def test_a_config_of_another_network_is_refused_by_the_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_config(to_config(SHAPES["Llama 3.2"]) | {"model_type": "llama"} | change)


def test_what_no_llama_has_is_not_exported(tmp_path: Path) -> None:
    shape = SHAPES["Llama 2"]
    for extra in ({"experts": Experts(2)}, {"qk_norm": True}, {"logit_cap": 30.0}):
        with pytest.raises(ValueError, match=f"no plain Llama, it has {next(iter(extra))}"):
            to_config(replace(shape, **extra))


class TestRefusals:
    def edit(self, file: Path, change: Callable[[dict[str, Any]], None]) -> None:
        value = json.loads(file.read_text())
        change(value)
        file.write_text(json.dumps(value))

    def test_a_shard_cut_short(self, theirs: Path) -> None:
        shard = sorted(theirs.glob("*.safetensors"))[1]
        shard.write_bytes(shard.read_bytes()[:-100])
        with pytest.raises(ValueError, match=rf"{shard.name} is damaged or cut short"):
            open_hub(theirs)

    def test_a_shard_that_is_not_there(self, theirs: Path) -> None:
        shard = sorted(theirs.glob("*.safetensors"))[1]
        shard.unlink()
        with pytest.raises(ValueError, match=rf"{shard.name} is missing"):
            open_hub(theirs)

    def test_a_tensor_that_is_not_in_the_index(self, theirs: Path) -> None:
        self.edit(theirs / INDEX, lambda index: index["weight_map"].pop("model.layers.1.mlp.up_proj.weight"))
        with pytest.raises(ValueError, match=r"lacks the tensor model\.layers\.1\.mlp\.up_proj\.weight"):
            open_hub(theirs)

    def test_a_tensor_that_is_not_where_the_index_says(self, theirs: Path) -> None:
        first, *_ = sorted(path.name for path in theirs.glob("*.safetensors"))
        norm = "model.norm.weight"
        self.edit(theirs / INDEX, lambda index: index["weight_map"].update({norm: first}))
        with pytest.raises(ValueError, match=rf"{first} lacks the tensor model\.norm\.weight"):
            open_hub(theirs)

    @pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", 7])
    def test_an_index_that_points_out_of_the_folder(self, theirs: Path, file: Any) -> None:
        save_file({"model.norm.weight": torch.ones(64)}, theirs.parent / "outside.safetensors")
        self.edit(theirs / INDEX, lambda index: index["weight_map"].update({"model.norm.weight": file}))
        with pytest.raises(ValueError, match=r"puts model\.norm\.weight into .*which is no safetensors file beside it"):
            open_hub(theirs)

    def test_a_tensor_of_another_shape(self, theirs: Path) -> None:
        self.edit(theirs / "config.json", lambda config: config.update(intermediate_size=128))
        with pytest.raises(
            ValueError, match=r"model\.layers\.0\.mlp\.gate_proj\.weight in .* has the shape \(96, 64\)"
        ):
            open_hub(theirs)

    def test_a_tensor_that_a_llama_has_no_place_for(self, theirs: Path) -> None:
        shard = sorted(theirs.glob("*.safetensors"))[-1]
        name = "model.layers.0.self_attn.q_proj.bias"
        save_file(load_file(shard) | {name: torch.ones(64)}, shard)
        self.edit(theirs / INDEX, lambda index: index["weight_map"].update({name: shard.name}))
        with pytest.raises(ValueError, match=r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias"):
            open_hub(theirs)

    def test_pickled_weights(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(to_config(SHAPES["Llama 2"])))
        (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
        with pytest.raises(ValueError, match=r"pickled weights \(\.bin, \.pth\) are never read"):
            open_hub(tmp_path)

    def test_a_place_that_is_taken_is_left_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(ValueError, match="is there already"):
            export_hub(Held(Llama(SHAPES["Llama 2"]).initialise(0)), tmp_path)
        assert (tmp_path / "mine.txt").read_text() == "mine"

    def test_no_model_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="there is no model at"):
            open_weights(tmp_path)


def test_frequencies_that_old_files_keep_are_passed_over(tmp_path: Path) -> None:
    shape = SHAPES["Llama 2"]
    reference(shape).save_pretrained(tmp_path)
    extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    save_file(load_file(tmp_path / "model.safetensors") | extra, tmp_path / "model.safetensors")
    assert set(open_hub(tmp_path).types) == set(spans(shape, HUGGING_FACE))


def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    class Stops(Held):
        def rows(self, name: str, start: int = 0, end: int | None = None) -> torch.Tensor:
            if name == "blocks.1.down":
                raise KeyboardInterrupt
            return super().rows(name, start, end)

    with pytest.raises(KeyboardInterrupt):
        export_hub(Stops(Llama(SHAPES["Llama 2"]).initialise(0)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [export_hub, export_ours], ids=["export", "import"])
def test_never_more_than_a_tensor_is_in_memory(
    write: Callable[..., None], tmp_path: Path, peak_bytes: Callable[[Callable[[], object]], int]
) -> None:
    shape = Shape(12, 128, 4, 2, 256, 320, context=64, tied=False)
    export_hub(Held(Llama(shape).initialise(0)), tmp_path / "in", dtype=torch.bfloat16, shard_bytes=1)
    largest = max(torch.Size(size).numel() for size in parameters(shape).values())
    source = open_hub(tmp_path / "in")
    peak = peak_bytes(lambda: write(source, tmp_path / "out"))
    # A joined matrix and its parts, in bf16, those mapped counted too, as every tensor has a file to itself.
    headers = 1000
    assert 0 < peak <= 2 * 2 * largest + headers < 0.2 * 2 * shape.total
