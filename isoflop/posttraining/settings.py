"""What the stages of post-training are told, as frozen values that TOML files hold. Knows no torch: helps read it too.

Defaults of the optimiser are those of Llama 2's fine-tuning (arXiv 2307.09288, section 3.1: AdamW β .9/.95, decay .1,
cosine, batch 64, two epochs); the rate is Llama 3's 1e-5 (arXiv 2407.21783, section 4.1.3), which is one for large
models: a small one wants 1e-4 to 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from isoflop.planning.layout import Recompute
from isoflop.planning.lora import Lora
from isoflop.training.config import OptimizerConfig

PATH = {"path": True}
"""Marks what is a path or several: relative to the stage's directory, on a command line to where one is."""


@dataclass(frozen=True)
class StageConfig:
    """What all stages are told.

    Attributes:
        model: what it begins with: a run, another stage, an imported model, a Hugging Face folder.
        epochs: how often every example is learnt from; may be a fraction.
        batch: examples in a step, whatever they are in this stage: conversations, rankings.
        rate: the highest learning rate.
        warmup: share of the stage over which the rate rises to it.
        floor: share of the highest rate that the cosine ends with.
        columns: others' names for the fields of the data's rows, such as "prompt=question,answer=response".
        context: longest example in tokens; 0 for the model's context.
        micro_tokens: tokens of a forward pass at most, though one row at least.
        optimizer: constants of AdamW, and the clip of the gradient's norm.
        seed: chooses the order of examples and whatever else is drawn.
        validation: share of examples that are kept from training and measured on.
        validate_times: measurements over the stage after the one before it; the last is at its end.
        lora: additions to the matrices that are trained instead of the weights, where they have a rank; the model at
            the end has them in, and beside it they are in PEFT's files.
        device: where it is computed; auto is a GPU if there is one.
        precision: compute type; auto is bf16 where the hardware multiplies it natively, else fp32.
        recompute: what the backward pass computes again instead of keeping it, blocks for far less memory.
        compile: auto compiles where a C++ compiler is installed and the stage is long enough to repay it.
        checkpoint_seconds: time between checkpoints, which only bounds what a crash loses.
    """

    kind: ClassVar[str] = "stage"

    model: str = field(metadata=PATH)
    epochs: float = 1.0
    batch: int = 64
    rate: float = 1e-5
    warmup: float = 0.03
    floor: float = 0.1
    columns: str = ""
    context: int = 0
    micro_tokens: int = 4096
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 0
    validation: float = 0.05
    validate_times: int = 4
    lora: Lora = field(default_factory=Lora)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    recompute: Recompute = "none"
    compile: Literal["auto", "always", "never"] = "auto"
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        if not self.epochs > 0 or self.batch < 1 or not self.rate > 0 or self.micro_tokens < 1 or self.context < 0:
            raise ValueError(
                f"a stage needs epochs and a rate above 0, a batch and micro_tokens of 1 or more and a context of 0 or "
                f"more: epochs = {self.epochs}, rate = {self.rate}, batch = {self.batch}, "
                f"micro_tokens = {self.micro_tokens}, context = {self.context}"
            )
        if not 0 <= self.warmup <= 1 or not 0 <= self.floor <= 1 or not 0 <= self.validation < 1:
            raise ValueError(
                f"warmup and floor are shares from 0 to 1, validation one below 1: warmup = {self.warmup}, "
                f"floor = {self.floor}, validation = {self.validation}"
            )


@dataclass(frozen=True)
class SFTConfig(StageConfig):
    """Supervised fine-tuning on conversations.

    Attributes:
        data: files of conversations, in any of the known formats.
        replay: folders of prepared tokens, whose plain text is learnt from as well.
        replay_share: share of all trained tokens that are plain text's.
    """

    kind: ClassVar[str] = "sft"

    data: tuple[str, ...] = field(default=(), metadata=PATH)
    replay: tuple[str, ...] = field(default=(), metadata=PATH)
    replay_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a stage without data."""
        super().__post_init__()
        if not self.data:
            raise ValueError("fine-tuning needs data: files of conversations")
        if not 0 < self.replay_share < 1:
            raise ValueError(f"replay_share is a share between 0 and 1, not {self.replay_share}")


@dataclass(frozen=True)
class RewardConfig(StageConfig):
    """Reward modelling on rankings.

    Attributes:
        data: files of preferences or rankings.
        centring: weight of (r_better + r_worse)² in a pair's loss.
    """

    kind: ClassVar[str] = "reward"

    data: tuple[str, ...] = field(default=(), metadata=PATH)
    centring: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a stage without data."""
        super().__post_init__()
        if not self.data or self.centring < 0:
            raise ValueError(
                f"a reward model needs data: files of preferences; and centring of 0 or more, not {self.centring}"
            )


@dataclass(frozen=True)
class Preference:
    """The terms of a preference's loss; as they are, Llama 3's.

    Attributes:
        beta: what a difference of log-likelihoods is worth; the larger, the closer the policy stays to the reference.
        nll: weight of the better response's −log p per token, which its end is part of.
        form: of the loss, sigmoid (DPO) or squared (IPO).
        smoothing: share of preferences that are taken to be the wrong way round.
        end_in_dpo: compare the tokens that end responses too, as DPO elsewhere does.
        per_token: compare means over a response's tokens instead of sums.
        reference: compare with the model that the stage begins with.
        margin: taken off β·h.
    """

    beta: float = 0.1
    nll: float = 0.2
    form: Literal["sigmoid", "squared"] = "sigmoid"
    smoothing: float = 0.0
    end_in_dpo: bool = False
    per_token: bool = False
    reference: bool = True
    margin: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what prefers nothing."""
        if not self.beta > 0 or self.nll < 0 or not 0 <= self.smoothing < 0.5:
            raise ValueError(
                f"a preference needs a beta above 0, an nll of 0 or more and a smoothing from 0 to below 0.5: {self}"
            )
        if self.form == "squared" and (self.smoothing or self.margin):
            raise ValueError("smoothing and margin belong to the sigmoid; the squared form has none")


@dataclass(frozen=True)
class DPOConfig(StageConfig):
    """Direct preference optimisation on rankings.

    Attributes:
        data: files of preferences or rankings.
        loss: the terms of the loss.
        pairs: of a ranking of more than two, its best and worst response (extremes) or all pairs.
        fall: nats a token by which the better responses may become less likely than they were to the reference, as a
            mean over window steps, before a warning.
        window: steps of that mean.
    """

    kind: ClassVar[str] = "dpo"

    data: tuple[str, ...] = field(default=(), metadata=PATH)
    loss: Preference = field(default_factory=Preference)
    pairs: Literal["extremes", "all"] = "extremes"
    fall: float = 0.1
    window: int = 20

    def __post_init__(self) -> None:
        """Refuse a stage without data."""
        super().__post_init__()
        if not self.data or self.fall < 0 or self.window < 1:
            raise ValueError(
                f"DPO needs data: files of preferences; a fall of 0 or more and a window of 1 or more, not {self.fall} "
                f"and {self.window}"
            )


@dataclass(frozen=True)
class TeachConfig(StageConfig):
    """Distillation from a larger teacher on what the student itself answers.

    Attributes:
        teacher: a model with the same tokenizer, opened as the student is.
        prompts: files of prompts, in any format; the student answers them anew for every step.
        data: files of conversations with given answers, about whose tokens the teacher is asked as well.
        beta: the divergence: 0 is KL(teacher‖student), 1 KL(student‖teacher), between them the generalised
            Jensen–Shannon divergence.
        temperature: of both distributions that are compared.
        given: weight of −log p of given answers' tokens beside the divergence.
        draw_temperature: of the student's answers; 0 is greedy.
        max_tokens: tokens of an answer at most.
        rows: answers written at once.
    """

    kind: ClassVar[str] = "teach"

    teacher: str = field(default="", metadata=PATH)
    prompts: tuple[str, ...] = field(default=(), metadata=PATH)
    data: tuple[str, ...] = field(default=(), metadata=PATH)
    beta: float = 0.5
    temperature: float = 1.0
    given: float = 0.0
    draw_temperature: float = 1.0
    max_tokens: int = 256
    rows: int = 64

    def __post_init__(self) -> None:
        """Refuse a stage in which nothing is taught."""
        super().__post_init__()
        if not self.teacher or not (self.prompts or self.data):
            raise ValueError("teaching needs a teacher, and prompts for the student to answer or data with answers")
        if not 0 <= self.beta <= 1 or not self.temperature > 0 or self.given < 0 or self.draw_temperature < 0:
            raise ValueError(
                f"beta is from 0 to 1, temperature above 0, given and draw_temperature 0 or more: beta = {self.beta}, "
                f"temperature = {self.temperature}, given = {self.given}, draw_temperature = {self.draw_temperature}"
            )
        if self.max_tokens < 1 or self.rows < 1:
            raise ValueError(f"max_tokens and rows must be 1 or more: {self.max_tokens}, {self.rows}")
        if self.given and not self.data:
            raise ValueError(f"given = {self.given} weighs given answers, and there are none: give data")
