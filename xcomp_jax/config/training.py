"""Configuration of training: stages, adapters, mesh."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal, get_args

from xcomp_jax.config.model import CompressionConfig
from xcomp_jax.config.schema import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis; -1 takes the remaining ones: one axis, or fsdp and context together.

    data, fsdp: split a batch. fsdp, context: split the parameters. tensor: splits the wide side of
    every matrix. context: splits the tokens of each video, for videos too long for one device and
    for more devices than examples. `mesh_on` resolves -1.
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    context: int = 1

    def __post_init__(self) -> None:
        sizes = dataclasses.astuple(self)
        require(
            all(n == -1 or n >= 1 for n in sizes)
            and (sizes.count(-1) <= 1 or (self.data != -1 and self.tensor != -1)),
            f"mesh {dataclasses.asdict(self)}: sizes are positive; one may be -1, or fsdp and "
            "context both",
        )


TRAINABLE_PARTS = ("vision", "projector", "llm")
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartRates:
    """Peak learning rate of each part of the model; None: that of the stage.

    The published base model was trained with 2e-6 for its encoder and 1e-5 for everything else.
    """

    vision: float | None = None
    projector: float | None = None
    llm: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters on the language model's projections, whose weights stay frozen.

    x A B * alpha / rank is added to each of `projections`, with A [in, rank] and B [rank, out]. B
    is initialized to zero, so that training starts at the base model.
    """

    rank: int = 16
    alpha: float = 32.0
    projections: tuple[Projection, ...] = get_args(Projection)

    def __post_init__(self) -> None:
        require(self.rank >= 1, f"lora.rank={self.rank} must be at least 1")
        require(self.alpha > 0, f"lora.alpha={self.alpha} must be positive")
        require(
            bool(self.projections) and len(set(self.projections)) == len(self.projections),
            f"lora.projections={self.projections} must name at least one of {get_args(Projection)},"
            " each once",
        )

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training: trainable parts, one compression, one learning-rate schedule.

    name: also the name of its checkpoint folder.
    batch_size: examples of one optimizer step over all devices and accumulation steps.
    accumulate_steps:
        micro batches of a batch; -1: as many as give each device (or each group of devices that
        shares a video) one example at a time, on any mesh. -1 requires loss_average="examples",
        which does not depend on how a batch is cut.
    learning_rates: other peak rates for single parts, with the same schedule.
    lora: train the `llm` part by low-rank adapters only, merged into its weights at the end.
    loss_average:
        `tokens`, mean over all label tokens of a micro batch, as in the original's code;
        `examples`, mean of each example's mean, equivalent to its published run (one example per
        device, so that all examples have the same weight).
    projector_learns_below_frames:
        videos of that many frames or more give the projector no gradient. The original does so
        from 512 frames on, as a side effect of encoding long videos without gradients.
    remat: recompute decoder layers in the backward pass instead of storing their activations.
    """

    name: str
    num_steps: int
    learning_rate: float
    compression: CompressionConfig = CompressionConfig()
    learning_rates: PartRates = PartRates()
    trainable: tuple[str, ...] = ("projector", "llm")
    lora: LoRAConfig | None = None
    batch_size: int = 32
    accumulate_steps: int = 1
    warmup_ratio: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    loss_average: Literal["tokens", "examples"] = "tokens"
    projector_learns_below_frames: int | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[\w.-]+", self.name) is not None and self.name not in (".", ".."),
            f"stage name {self.name!r} names a folder of checkpoints: use letters, digits, '_', "
            "'.' and '-'",
        )
        for field in ("num_steps", "batch_size"):
            value = getattr(self, field)
            require(value >= 1, f"stage {self.name!r}: {field}={value} must be at least 1")
        require(
            bool(self.trainable) and set(self.trainable) <= set(TRAINABLE_PARTS),
            f"stage {self.name!r}: trainable={self.trainable} must be taken from {TRAINABLE_PARTS}",
        )
        rates = dataclasses.asdict(self.learning_rates)
        idle = sorted(part for part in rates if rates[part] and part not in self.trainable)
        require(
            not idle,
            f"stage {self.name!r}: learning_rates names {idle}, which trainable={self.trainable} "
            "does not; add them there, or omit their rate",
        )
        require(
            all(
                rate is None or 0 <= rate < math.inf
                for rate in (self.learning_rate, *rates.values())
            ),
            f"stage {self.name!r}: learning_rate={self.learning_rate} and learning_rates={rates} "
            "must be finite and must not be negative",
        )
        for field, allowed, rule in (
            ("beta1", 0 <= self.beta1 < 1, "lie in [0, 1)"),
            ("beta2", 0 <= self.beta2 < 1, "lie in [0, 1)"),
            ("eps", 0 < self.eps < math.inf, "be positive and finite"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "be finite and not negative"),
            ("max_grad_norm", self.max_grad_norm > 0, "be positive; inf disables clipping"),
            ("warmup_ratio", 0 <= self.warmup_ratio < 1, "lie in [0, 1)"),
        ):
            require(allowed, f"stage {self.name!r}: {field}={getattr(self, field)} must {rule}")
        frames = self.projector_learns_below_frames
        require(
            frames is None or frames >= 0,
            f"stage {self.name!r}: projector_learns_below_frames={frames} must not be negative",
        )
        require(
            self.lora is None or "llm" in self.trainable,
            f"stage {self.name!r}: lora adapts the llm, which is not in "
            f"trainable={self.trainable}; add 'llm', or remove lora",
        )
        steps = self.accumulate_steps
        require(
            steps == -1 or (steps >= 1 and self.batch_size % steps == 0),
            f"stage {self.name!r}: accumulate_steps={steps} must divide batch_size="
            f"{self.batch_size}, or be -1",
        )
        require(
            steps != -1 or self.loss_average == "examples",
            f"stage {self.name!r}: with accumulate_steps=-1 the number of devices would change "
            f"the loss for loss_average={self.loss_average!r}; set a number, or use 'examples'",
        )
        require(
            self.compression.ranking in (None, "uniform"),
            f"stage {self.name!r}: compression.ranking={self.compression.ranking!r} depends on "
            "the prompt's last token, which in training is the end of the answer; use 'uniform'",
        )

    @property
    def learned_parts(self) -> tuple[str, ...]:
        """Parts of the parameter tree with gradients: adapters instead of an adapted llm."""
        adapted = self.lora is not None
        return tuple("lora" if adapted and part == "llm" else part for part in self.trainable)
