"""GGUF files as llama.cpp reads them: names, metadata, the order of rotated rows, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isoflop.model.gguf import Packing, export_gguf
from isoflop.model.gguf_layout import halved, paired
from isoflop.model.gguf_source import open_gguf, unpacked
from isoflop.model.llama import Llama
from isoflop.model.names import Span
from isoflop.model.source import Held
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape

gguf = pytest.importorskip("gguf")

PLAIN = Shape(2, 64, 4, 2, 96, 320, context=64, tied=False, rope_theta=5e5)
SCALED = Shape(2, 64, 4, 2, 96, 320, 256, tied=True, rope_theta=5e5, rope_scaling=RopeScaling(factor=32.0))


def write(shape: Shape, path: Path, packing: Packing = "fp32") -> Llama:
    model = Llama(shape).initialise(0)
    export_gguf(Held(model), path, packing=packing)
    return model


def ids(shape: Shape) -> torch.Tensor:
    return torch.randint(shape.vocab, (2, shape.context), generator=torch.Generator().manual_seed(0))


def test_neighbouring_pairs_turn_as_halves_do_once_the_rows_are_in_llama_cpps_order() -> None:
    """Its rotary embedding, written out for one head at one position, gives our scores from the permuted rows."""
    shape, generator = replace(PLAIN, heads=4), torch.Generator().manual_seed(0)
    span = Span("blocks.0.qkv", 0, 64, (64,))
    q, k = (torch.randn(64, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    x, y = (torch.randn(64, generator=generator, dtype=torch.float64) for _ in range(2))
    angles = 5.0 * shape.rope_theta ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)

    def halves(heads: torch.Tensor) -> torch.Tensor:
        first, second = heads.chunk(2, -1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    def neighbours(heads: torch.Tensor) -> torch.Tensor:
        turned = torch.view_as_complex(heads.view(4, 8, 2)) * torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(turned).flatten(1)

    ours = (halves((q @ x).view(4, 16)) * (k @ y).view(4, 16)).sum(-1)
    moved_q, moved_k = (paired("blk.0.attn_q.weight", rows, span, shape) for rows in (q, k))
    theirs = (neighbours((moved_q @ x).view(4, 16)) * (moved_k @ y).view(4, 16)).sum(-1)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(halved("blk.0.attn_q.weight", moved_q, shape), q)
    assert not torch.equal(moved_q, q)


def test_names_types_and_metadata_are_llama_cpps(tmp_path: Path) -> None:
    model = write(PLAIN, tmp_path / "a.gguf", "f16")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    wanted = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, PLAIN.layers)
    names = {wanted.get_name(name, try_suffixes=(".weight",)) for name in model_names(PLAIN)}
    assert set(tensors) == names
    assert tensors["blk.0.attn_k.weight"].shape.tolist() == [64, 32]  # the row's length comes first there
    assert {t.tensor_type.name for name, t in tensors.items() if "norm" in name} == {"F32"}
    assert {t.tensor_type.name for name, t in tensors.items() if "norm" not in name} == {"F16"}
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.dimension_count"] == 16
    assert fields["llama.rope.freq_base"] == 5e5
    assert fields["llama.vocab_size"] == 320
    assert fields["general.file_type"] == 1
    assert torch.equal(unpacked(tensors["blk.1.ffn_up.weight"]), model.blocks[1].gate_up[96:].half())


def model_names(shape: Shape) -> list[str]:
    transformers = pytest.importorskip("transformers")
    from isoflop.model.hub_config import to_config

    return list(transformers.LlamaForCausalLM(transformers.LlamaConfig(**to_config(shape))).state_dict())


def test_transformers_computes_the_same_from_the_file(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = write(PLAIN, tmp_path / "a.gguf")
    config = load_gguf_checkpoint(tmp_path / "a.gguf")["config"]
    loaded = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    read = load_gguf_checkpoint(tmp_path / "a.gguf", return_tensors=True, model_to_load=loaded)
    loaded.load_state_dict(read["tensors"])
    with torch.no_grad():
        torch.testing.assert_close(model(ids(PLAIN)), loaded(ids(PLAIN)).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [PLAIN, SCALED], ids=["plain", "scaled and tied"])
@pytest.mark.parametrize("packing", ["fp32", "bf16", "f16", "q8_0"])
def test_weights_come_back_as_they_were_packed(shape: Shape, packing: Packing, tmp_path: Path) -> None:
    model = write(shape, tmp_path / "a.gguf", packing)
    source = open_gguf(tmp_path / "a.gguf")
    assert source.shape == shape
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "q8_0": torch.float32}[packing]
    for name, parameter in model.named_parameters():
        found = source.rows(name)
        assert found.dtype == source.dtype(name) == (dtype if parameter.ndim > 1 else torch.float32)
        if packing == "q8_0" and parameter.ndim > 1:
            # Half a step of each 32 values' scale, which is a 127th of the largest and itself rounded to f16.
            blocks, differences = (t.detach().view(-1, 32).abs() for t in (parameter, parameter - found))
            assert (differences.amax(1) <= blocks.amax(1) / 127 * (0.5 + 127 * 2**-11) + 1e-7).all()
            assert differences.amax() > 0
        else:
            assert torch.equal(found, parameter.to(found.dtype)), name


def test_slowed_frequencies_are_as_llama_cpp_derives_them(tmp_path: Path) -> None:
    write(SCALED, tmp_path / "a.gguf")
    factors = next(t.data for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors if t.name == "rope_freqs.weight")
    expected = []
    for i in range(0, 16, 2):
        wavelength = 2 * np.pi * SCALED.rope_theta ** (i / 16)
        share = (8192 / wavelength - 1.0) / (4.0 - 1.0)
        slowed = 32.0 if wavelength > 8192 else 1 / ((1 - share) / 32.0 + share)
        expected.append(1.0 if wavelength < 8192 / 4 else slowed)
    np.testing.assert_allclose(factors, expected, rtol=1e-6)
    assert {1.0, 32.0} < set(np.round(expected, 6))


def test_slowed_frequencies_of_another_rule_are_refused(tmp_path: Path) -> None:
    write(replace(SCALED, rope_scaling=RopeScaling(8.0, 1.0, 4.0, original=64)), tmp_path / "a.gguf")
    with pytest.raises(ValueError, match=r"rope_freqs\.weight are not Llama 3\.1's for a factor of 8"):
        open_gguf(tmp_path / "a.gguf")


def test_rows_that_do_not_fit_q8_0_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"blk\.0\.ffn_down\.weight has rows of 80; use bf16"):
        write(replace(PLAIN, ffn=80), tmp_path / "a.gguf", "q8_0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 3, 40, 3000, -1])
def test_a_file_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    write(PLAIN, tmp_path / "a.gguf")
    data = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(data[: keep if keep >= 0 else len(data) - 10_000])
    with pytest.raises(ValueError, match=r"a\.gguf is damaged, cut short or no GGUF file"):
        open_gguf(tmp_path / "a.gguf")


def test_never_more_than_a_tensor_is_in_memory(
    tmp_path: Path, peak_bytes: Callable[[Callable[[], object]], int]
) -> None:
    shape = Shape(12, 128, 4, 2, 256, 320, context=64, tied=False)
    model = Llama(shape).initialise(0)
    peak = peak_bytes(lambda: export_gguf(Held(model), tmp_path / "a.gguf", packing="bf16"))
    assert 0 < peak <= (4 + 2) * shape.vocab * shape.width < 0.1 * 4 * shape.total
