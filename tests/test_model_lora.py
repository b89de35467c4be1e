"""Adapters change nothing when new, add what PEFT adds, are merged exactly, and leave the weights as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from isoflop.inference.decoder import Decoder
from isoflop.model.export import export_hub
from isoflop.model.llama import Llama
from isoflop.model.lora import Addition, attach, merge
from isoflop.model.names import HUGGING_FACE, spans
from isoflop.model.peft import ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_adapter, save_adapter
from isoflop.model.source import Held
from isoflop.planning.lora import Lora
from isoflop.planning.shape import Shape

SHAPE = Shape(2, 32, 4, 2, 48, 60, context=24)
LORA = Lora(rank=4, alpha=12.0)
SOME = Lora(rank=3, alpha=6.0, parts=("q_proj", "v_proj", "down_proj"), rank_stabilised=True)


def tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(SHAPE.vocab, (rows, SHAPE.context), generator=torch.Generator().manual_seed(1))


def trained(lora: Lora, **options: Any) -> Llama:
    """A random model with adapters whose B's are not zero."""
    model = attach(Llama(SHAPE, **options).initialise(0), lora, seed=1)
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, Addition):
            torch.nn.init.normal_(module.b, 0.0, 0.2, generator=generator)
    return model


def by_definition(lora: Lora) -> Llama:
    """The model whose matrices are W + s·B·A, from the additions' tensors and the table of names alone."""
    model, plain = trained(lora), Llama(SHAPE).initialise(0)
    for theirs, span in spans(SHAPE, HUGGING_FACE).items():
        part = theirs.split(".")[-2] if "layers" in theirs else ""
        if part in lora.parts:
            path, _, joined = span.ours.rpartition(".")
            found = dict(model.get_submodule(path).named_parameters())
            down, up = (found[f"adapters.{joined}.parts.{part}.{end}"] for end in "ab")
            with torch.no_grad():
                plain.get_parameter(span.ours)[span.start : span.end] += lora.scale * up @ down
    return plain


def test_new_adapters_change_no_bit() -> None:
    plain = Llama(SHAPE).initialise(0)
    assert torch.equal(attach(Llama(SHAPE).initialise(0), LORA)(tokens()), plain(tokens()))


@pytest.mark.parametrize("lora", [LORA, SOME], ids=["all", "some"])
def test_additions_are_those_of_the_definition(lora: Lora) -> None:
    wanted = by_definition(lora)(tokens())
    assert (wanted - Llama(SHAPE).initialise(0)(tokens())).abs().max() > 0.1
    torch.testing.assert_close(trained(lora)(tokens()), wanted, atol=1e-5, rtol=1e-5)


def test_scale_is_alpha_over_rank_or_its_root() -> None:
    assert LORA.scale == 3.0
    assert SOME.scale == pytest.approx(6 / 3**0.5)


def test_merged_weights_give_the_same_and_drop_the_adapters() -> None:
    model = trained(LORA)
    before = model(tokens())
    names = set(dict(merge(model).named_parameters()))
    assert names == set(dict(Llama(SHAPE).named_parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(tokens()), before, atol=1e-5, rtol=1e-5)


def test_adapters_alone_have_gradients_and_the_right_ones() -> None:
    model, effective = trained(SOME), by_definition(SOME)
    for either in (model, effective):
        either(tokens()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (".adapters." in name), name
    addition = model.blocks[1].adapters["qkv"].parts["v_proj"]
    slope = effective.blocks[1].qkv.grad[SHAPE.width + SHAPE.kv_width :]
    torch.testing.assert_close(addition.b.grad, SOME.scale * slope @ addition.a.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(addition.a.grad, SOME.scale * addition.b.T @ slope, atol=1e-4, rtol=1e-4)


def test_recomputed_blocks_have_the_same_gradients() -> None:
    found = []
    for recompute in ("none", "blocks"):
        model = trained(LORA, recompute=recompute)
        model(tokens()).square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == 2 * 7 * SHAPE.layers
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.slow
def test_compiled_blocks_have_the_same_gradients() -> None:
    found = []
    for compiled in (False, True):
        model = trained(LORA, compiled=compiled)
        model(tokens()).square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_what_is_read_or_written_of_a_model_has_the_additions() -> None:
    model, effective = trained(LORA), by_definition(LORA)
    torch.testing.assert_close(Held(model).rows("blocks.0.qkv"), effective.blocks[0].qkv.detach())
    read = [Decoder(one, dtype=torch.float32).layers[1].down(torch.eye(SHAPE.ffn)) for one in (model, effective)]
    torch.testing.assert_close(*read)


def test_files_come_back_the_same(tmp_path: Path) -> None:
    model = trained(SOME)
    save_adapter(model, SOME, tmp_path / "adapter", "base")
    back = Llama(SHAPE).initialise(0)
    lora = load_adapter(back, tmp_path / "adapter")
    assert replace(lora, parts=SOME.parts) == SOME
    assert set(lora.parts) == set(SOME.parts)
    assert torch.equal(back(tokens()), model(tokens()))


@pytest.mark.parametrize("lora", [LORA, SOME], ids=["all", "some"])
def test_transformers_weights_with_the_files_additions_give_our_logits(lora: Lora, tmp_path: Path) -> None:
    """Their module for each name in the file, W + s·B·A in it: what PEFT does, derived without it."""
    transformers = pytest.importorskip("transformers")
    model = trained(lora)
    export_hub(Held(Llama(SHAPE).initialise(0)), tmp_path / "base", dtype=torch.float32)
    save_adapter(model, lora, tmp_path / "adapter", str(tmp_path / "base"))
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base", torch_dtype=torch.float32)
    tensors = load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS)
    assert len(tensors) == 2 * len(lora.parts) * SHAPE.layers
    for name in [name for name in tensors if "lora_A" in name]:
        module = theirs.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        with torch.no_grad():
            module.weight += lora.scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
    torch.testing.assert_close(theirs(tokens()).logits, model(tokens()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lora", [LORA, SOME], ids=["all", "some"])
def test_peft_applies_our_files_as_we_do_and_we_its_own(lora: Lora, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = trained(lora)
    export_hub(Held(Llama(SHAPE).initialise(0)), tmp_path / "base", dtype=torch.float32)
    save_adapter(model, lora, tmp_path / "adapter", str(tmp_path / "base"))
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base", torch_dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    torch.testing.assert_close(theirs(tokens()).logits, model(tokens()), atol=1e-4, rtol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    back = Llama(SHAPE).initialise(0)
    load_adapter(back, tmp_path / "theirs")
    assert torch.equal(back(tokens()), model(tokens()))


def test_adapters_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean q_proj"):
        Lora(parts=("q_prj",))
    with pytest.raises(ValueError, match="merge them first"):
        attach(trained(LORA), LORA)
    save_adapter(trained(LORA), LORA, tmp_path, "base")
    with pytest.raises(ValueError, match=r"q_proj.lora_A.weight in .* has the shape \(4, 32\)"):
        load_adapter(Llama(replace(SHAPE, width=64)).initialise(0), tmp_path)
    tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
    save_file(dict(list(tensors.items())[1:]), tmp_path / ADAPTER_WEIGHTS)
    with pytest.raises(ValueError, match="lacks the tensor"):
        load_adapter(Llama(SHAPE).initialise(0), tmp_path)
    config = (tmp_path / ADAPTER_CONFIG).read_text()
    (tmp_path / ADAPTER_CONFIG).write_text(config.replace('"use_rslora"', '"use_dora": true, "use_rslora"'))
    with pytest.raises(ValueError, match="use_dora"):
        load_adapter(Llama(SHAPE).initialise(0), tmp_path)
