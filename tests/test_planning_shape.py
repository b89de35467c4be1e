"""Shapes count what the released models have, and the ladder gives a well-formed model of any size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.planning.ladder import aspect, shape_for, smallest
from isoflop.planning.shape import Shape, human

RELEASED = [
    (Shape(32, 4096, 32, 32, 11_008, 32_000, tied=False), 6_738_415_616),  # Llama 1 and 2 7B
    (Shape(40, 5120, 40, 40, 13_824, 32_000, tied=False), 13_015_864_320),  # 13B
    (Shape(80, 8192, 64, 8, 28_672, 32_000, tied=False), 68_976_648_192),  # Llama 2 70B
    (Shape(32, 4096, 32, 8, 14_336, 128_256, tied=False), 8_030_261_248),  # Llama 3 8B
    (Shape(80, 8192, 64, 8, 28_672, 128_256, tied=False), 70_553_706_496),  # Llama 3 70B
    (Shape(126, 16_384, 128, 8, 53_248, 128_256, tied=False), 405_853_388_800),  # Llama 3.1 405B
    (Shape(16, 2048, 32, 8, 8192, 128_256, tied=True), 1_235_814_400),  # Llama 3.2 1B
    (Shape(28, 3072, 24, 8, 8192, 128_256, tied=True), 3_212_749_824),  # Llama 3.2 3B
]


@pytest.mark.parametrize(("shape", "published"), RELEASED)
def test_parameter_counts_equal_the_released_weights(shape: Shape, published: int) -> None:
    assert shape.total == published


def test_conventions_differ_by_embedding_head_and_norms() -> None:
    tied, untied = Shape(2, 64, 2, 1, 224, 1000, tied=True), Shape(2, 64, 2, 1, 224, 1000, tied=False)
    assert tied.matmul - tied.body == 1000 * 64 == untied.total - tied.total
    assert tied.total - tied.matmul == 5 * 64


def test_exact_flops_exceed_6n_by_causal_attention() -> None:
    shape = Shape(3, 64, 2, 1, 224, 1000, context=128)
    # Scores and sums: two products of width per visible key, forward and twice backward.
    per_token = [3 * 2 * 2 * shape.layers * shape.width * (position + 1) for position in range(128)]
    assert shape.flops_per_token == 6 * shape.matmul + sum(per_token) / 128


@given(st.floats(math.log(8e4), math.log(4e11)))
def test_ladder_has_a_well_proportioned_model_near_any_size(log_size: float) -> None:
    size = math.exp(log_size)
    shape = shape_for(size, 512 if size < 1e7 else 32_000)
    assert abs(math.log(shape.matmul / size)) < math.log(1.35)
    assert abs(math.log(shape.width / shape.layers / aspect(shape.width))) < math.log(2)
    assert shape.heads % 2 == 0
    assert shape.kv_heads <= 8


def test_size_below_the_vocabulary_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="the nearest has"):
        shape_for(1e5, 128_256)
    assert smallest(512).matmul < 50_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 65}, "does not divide into 2 heads"),
        ({"kv_heads": 3}, "evenly"),
        ({"width": 6}, "even head dimension"),
        ({"layers": 0}, "layers must be at least 1"),
    ],
)
def test_shape_that_cannot_be_built_says_which_number_is_wrong(changes: dict[str, int], words: str) -> None:
    numbers = {"layers": 2, "width": 64, "heads": 2, "kv_heads": 1, "ffn": 224, "vocab": 512} | changes
    with pytest.raises(ValueError, match=words):
        Shape(**numbers)


def test_counts_read_as_people_say_them() -> None:
    assert [human(n) for n in (405e9, 1_235_814_400, 44_000, 12)] == ["405B", "1.24B", "44k", "12"]
