"""The released Llamas: shapes, parameter counts to the digit, and what their makers say training them took.

A plan is easier to believe beside a model that exists. Every count here is a published number that ``Shape`` must
reproduce by its own arithmetic, and the training facts are ground truth for the estimates of time and energy.
Instant. Left out: the vision models, Llama 4, fine-tuned variants, Llama 2 34B (never released), and the scaling of
rotary frequencies from 3.1 on (factor 8; 32 in 3.2), which ``Shape`` does not express because no count depends on it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from isoflop.planning.shape import Shape


@dataclass(frozen=True)
class Stage:
    """One configuration that a training run was reported in; rates are per device.

    ``layout`` is the degrees of tensor, context, pipeline and data parallelism, whose product is ``devices``;
    ``rows`` the sequences in a data-parallel group's batch. What was not reported is None.
    """

    devices: int
    context: int
    tokens_per_second: float | None = None
    flops_per_second: float | None = None
    mfu: float | None = None
    layout: tuple[int, int, int, int] | None = None
    rows: int | None = None

    @property
    def batch_tokens(self) -> int | None:
        """Tokens in a batch, where the report says enough to know."""
        return None if self.layout is None or self.rows is None else self.layout[3] * self.rows * self.context


@dataclass(frozen=True)
class Training:
    """What is published of a pre-training run.

    ``device`` is a name of the hardware catalogue; ``watts`` and ``power_usage`` (PUE) are those of the source's own
    sum of energy, None where it prints none. ``verified``: read in the paper or model card, or a full copy of it.
    """

    tokens: float
    device_hours: float
    device: str
    watts: float
    source: str
    verified: bool
    power_usage: float | None = None
    stages: tuple[Stage, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Released:
    """A released model. ``parameters`` is every parameter, as published; ``shape.total`` must equal it.

    ``shape.context`` is the length at which most tokens were seen, ``longest_context`` the one it was released for.
    """

    name: str
    shape: Shape
    parameters: int
    longest_context: int
    training: Training

    def to_json(self) -> dict[str, Any]:
        """The model as plain values."""
        return asdict(self)


PAPER_1 = "Touvron et al. 2023, arXiv 2302.13971, section 2.4 and tables 2 and 15"
CARD_2 = "Llama 2 model card (meta-llama/llama-models)"
CARD_3 = "Llama 3 model card (meta-llama/llama-models)"
CARD_31 = "Llama 3.1 model card (meta-llama/llama-models)"
CARD_32 = "Llama 3.2 model card (meta-llama/llama-models)"
PAPER_3 = "Grattafiori et al. 2024, arXiv 2407.21783, table 4"

UNEXPLAINED = "15T+ tokens; the card's hours imply far less MFU than the 405B's, and it does not say why"
DISTILLED = (
    "up to 9T tokens: an upper bound; pruned from 3.1 8B and trained on logits of 8B and 70B, whose making is not in "
    "the hours (86,000 more for both models); the context of training is not published, 3.1's is assumed"
)


def _one(tokens: float, hours: float, *stages: Stage) -> Training:
    return Training(tokens, hours, "A100-80", 400, PAPER_1, True, power_usage=1.1, stages=stages)


def _two(hours: float) -> Training:
    return Training(2e12, hours, "A100-80", 400, CARD_2, True)


def _three(hours: float, source: str) -> Training:
    return Training(15e12, hours, "H100", 700, source, True, note=UNEXPLAINED)


def _distilled(hours: float) -> Training:
    return Training(9e12, hours, "H100", 700, CARD_32, True, note=DISTILLED)


LARGEST = Training(
    tokens=15.6e12,
    device_hours=30.84e6,
    device="H100",
    watts=700,
    source=f"{CARD_31}; tokens and stages: {PAPER_3}",
    verified=True,
    stages=(
        Stage(8192, 8192, flops_per_second=430e12, mfu=0.43, layout=(8, 1, 16, 64), rows=32),
        Stage(16_384, 8192, flops_per_second=400e12, mfu=0.41, layout=(8, 1, 16, 128), rows=16),
        Stage(16_384, 131_072, flops_per_second=380e12, mfu=0.38, layout=(8, 16, 16, 8), rows=16),
    ),
    note="table 4's first version prints 4 data-parallel groups in its last row; only 8 give its GPUs and its batch",
)


def _early(layers: int, width: int, ffn: int, *, kv_heads: int | None = None, context: int, eps: float = 1e-5) -> Shape:
    """A shape of the first two generations: heads of 128, 32,000 tokens, an untied head."""
    heads = width // 128
    return Shape(layers, width, heads, kv_heads or heads, ffn, 32_000, context, False, 10_000.0, eps)


def _late(layers: int, width: int, heads: int, ffn: int, *, tied: bool = False) -> Shape:
    """A shape from the third generation on: 8 key-value heads, 128,256 tokens."""
    return Shape(layers, width, heads, 8, ffn, 128_256, 8192, tied, 500_000.0)


ONE_7B = _early(32, 4096, 11_008, context=2048, eps=1e-6)
ONE_13B = _early(40, 5120, 13_824, context=2048, eps=1e-6)
ONE_33B = _early(60, 6656, 17_920, context=2048, eps=1e-6)
ONE_65B = _early(80, 8192, 22_016, context=2048)
TWO_7B = _early(32, 4096, 11_008, context=4096)
TWO_13B = _early(40, 5120, 13_824, context=4096)
TWO_70B = _early(80, 8192, 28_672, kv_heads=8, context=4096)
THREE_8B = _late(32, 4096, 32, 14_336)
THREE_70B = _late(80, 8192, 64, 28_672)
THREE_405B = _late(126, 16_384, 128, 53_248)
THREE_1B = _late(16, 2048, 32, 8192, tied=True)
THREE_3B = _late(28, 3072, 24, 8192, tied=True)
LONG = 131_072

_MODELS = (
    Released("Llama 1 7B", ONE_7B, 6_738_415_616, 2048, _one(1.0e12, 82_432)),
    Released("Llama 1 13B", ONE_13B, 13_015_864_320, 2048, _one(1.0e12, 135_168)),
    Released("Llama 1 33B", ONE_33B, 32_528_943_616, 2048, _one(1.4e12, 530_432)),
    Released("Llama 1 65B", ONE_65B, 65_285_660_672, 2048, _one(1.4e12, 1_022_362, Stage(2048, 2048, 380))),
    Released("Llama 2 7B", TWO_7B, 6_738_415_616, 4096, _two(184_320)),
    Released("Llama 2 13B", TWO_13B, 13_015_864_320, 4096, _two(368_640)),
    Released("Llama 2 70B", TWO_70B, 68_976_648_192, 4096, _two(1_720_320)),
    Released("Llama 3 8B", THREE_8B, 8_030_261_248, 8192, _three(1.3e6, CARD_3)),
    Released("Llama 3 70B", THREE_70B, 70_553_706_496, 8192, _three(6.4e6, CARD_3)),
    Released("Llama 3.1 8B", THREE_8B, 8_030_261_248, LONG, _three(1.46e6, CARD_31)),
    Released("Llama 3.1 70B", THREE_70B, 70_553_706_496, LONG, _three(7.0e6, CARD_31)),
    Released("Llama 3.1 405B", THREE_405B, 405_853_388_800, LONG, LARGEST),
    Released("Llama 3.2 1B", THREE_1B, 1_235_814_400, LONG, _distilled(370_000)),
    Released("Llama 3.2 3B", THREE_3B, 3_212_749_824, LONG, _distilled(460_000)),
)

RELEASED: dict[str, Released] = {model.name: model for model in _MODELS}
"""The released models by name, oldest first."""


def nearest(plan: Shape | float) -> Released:
    """The released model nearest to a shape, or to a number of parameters (all of them); of equals the newest.

    Nearness is in ratios: for a shape over its size, depth, width, keys, FFN and vocabulary alike. Raises ValueError
    unless the number is positive and finite.
    """
    if isinstance(plan, Shape):
        aim = _proportions(plan)
        return min(reversed(_MODELS), key=lambda model: math.dist(aim, _proportions(model.shape)))
    if not 0 < plan < math.inf:
        raise ValueError(f"no model is near {plan} parameters; give a positive number")
    return min(reversed(_MODELS), key=lambda model: abs(math.log(model.parameters / plan)))


def _proportions(shape: Shape) -> list[float]:
    numbers = (shape.total, shape.layers, shape.width, shape.kv_width, shape.ffn, shape.vocab)
    return [math.log(number) for number in numbers]
