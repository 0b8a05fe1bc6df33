"""What is compared: ways to go from a frame's first number of tokens to one over the decoder."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from xcomp_jax.compression.schedule import plan_layer_groups, tokens_per_frame_by_layer
from xcomp_jax.config import CompressionConfig, ConfigError, ModelConfig

NONE = CompressionConfig(schedule="none")
PROGRESSIVE = CompressionConfig(schedule="cosine", keep="suffix")
UNIFORM = CompressionConfig(schedule="cosine", keep="uniform")
# 10 tokens in 2 layers, 2 in 1, 1 in 2: over 5 layers exactly the sum of the cosine.
STEPWISE = CompressionConfig(
    schedule="stepwise", keep="suffix", drop_after_layers=(2, 3), strides=(5, 2)
)
RANKED = CompressionConfig(
    schedule="ranked", ranking="attention", drop_after_layers=(2, 3), ratios=(1 / 5, 1 / 10)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One row of the table.

    name: of its folder. learned: tuned with this compression, or merely answering with it.
    paper: % right on LVBench at 1,024 frames (paper, ablations), where it has this row.
    """

    name: str
    title: str
    compression: CompressionConfig
    learned: bool
    paper: float | None = None


CONDITIONS = tuple(
    Condition(name=name, title=title, compression=compression, learned=learned, paper=paper)
    for name, title, compression, learned, paper in (
        ("base", "base, no compression", NONE, False, 41.8),
        ("free_ranked", "training-free, ranked by attention", RANKED, False, 41.1),
        ("free_stepwise", "training-free, step-wise", STEPWISE, False, 38.4),
        ("free_progressive", "training-free, progressive", PROGRESSIVE, False, 39.7),
        ("learned_none", "tuned as long, no compression", NONE, True, None),
        ("learned_stepwise", "learned, step-wise, suffix", STEPWISE, True, 42.3),
        ("learned_uniform", "learned, progressive, uniform", UNIFORM, True, 43.6),
        ("learned_progressive", "learned, progressive, suffix", PROGRESSIVE, True, 44.3),
    )
)


def tokens_by_layer(model: ModelConfig, compression: CompressionConfig) -> tuple[float, ...]:
    """Tokens of a frame that each decoder layer sees.

    Raises:
        ConfigError: a stride does not divide the tokens that are left.
    """
    tokens = model.projector.tokens_per_frame
    layers = model.llm.num_hidden_layers
    stages = plan_layer_groups(compression, num_layers=layers, tokens_per_frame=tokens)
    return tokens_per_frame_by_layer(stages, tokens)


def common_mean(model: ModelConfig, conditions: Sequence[Condition]) -> float:
    """Mean tokens of a frame over the layers, the same in all conditions that compress.

    Raises:
        ConfigError: it is not the same, or one of them does not end at 1 token; lists all of them.
    """
    counts = {
        condition.title: tokens_by_layer(model, condition.compression)
        for condition in conditions
        if condition.compression != NONE
    }
    means = {statistics.fmean(layers) for layers in counts.values()}
    if len(means) > 1 or any(layers[-1] != 1 for layers in counts.values()):
        listed = "; ".join(
            f"{title}: mean {statistics.fmean(layers):g}, last {layers[-1]:g}"
            for title, layers in counts.items()
        )
        raise ConfigError(
            "schedules can only be compared at one mean number of tokens per frame over the "
            f"decoder, each ending at 1, but with {model.llm.num_hidden_layers} layers and "
            f"{model.projector.tokens_per_frame} tokens they are: {listed}. Change "
            "drop_after_layers, strides and ratios in launch/schedules_in_small/conditions.py"
        )
    return means.pop()
