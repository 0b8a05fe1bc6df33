"""List the compared conditions: ways to reduce a frame to one token over the decoder layers."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from xcomp_jax.compression.schedule import plan_layer_groups, tokens_per_frame_by_layer
from xcomp_jax.config import CompressionConfig, ConfigError, ModelConfig

NONE = CompressionConfig(schedule="none")
PROGRESSIVE = CompressionConfig(schedule="cosine", keep="suffix")
UNIFORM = CompressionConfig(schedule="cosine", keep="uniform")
# 10 tokens in 2 layers, 2 in 1, and 1 in 2: over 5 layers the same sum as the cosine schedule.
STEPWISE = CompressionConfig(
    schedule="stepwise", keep="suffix", drop_after_layers=(2, 3), strides=(5, 2)
)
RANKED = CompressionConfig(
    schedule="ranked", ranking="attention", drop_after_layers=(2, 3), ratios=(1 / 5, 1 / 10)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One row of the report.

    Attributes:
        name: name of the condition's folder.
        learned: tuned with this compression; otherwise it is only switched on to answer.
        paper: % correct on LVBench at 1,024 frames (ablations of arXiv 2604.14149), if listed.
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
        ("learned_none", "tuned equally long, no compression", NONE, True, None),
        ("learned_stepwise", "learned, step-wise, suffix", STEPWISE, True, 42.3),
        ("learned_uniform", "learned, progressive, uniform", UNIFORM, True, 43.6),
        ("learned_progressive", "learned, progressive, suffix", PROGRESSIVE, True, 44.3),
    )
)


def tokens_by_layer(model: ModelConfig, compression: CompressionConfig) -> tuple[float, ...]:
    """Returns the tokens per frame in each decoder layer.

    Raises:
        ConfigError: a stride does not divide the number of tokens.
    """
    tokens = model.projector.tokens_per_frame
    layers = model.llm.num_hidden_layers
    groups = plan_layer_groups(compression, num_layers=layers, tokens_per_frame=tokens)
    return tokens_per_frame_by_layer(groups, tokens)


def common_mean(model: ModelConfig, conditions: Sequence[Condition]) -> float:
    """Returns the mean tokens per frame over the layers, common to all compressed conditions.

    Raises:
        ConfigError: the means differ, or a condition does not end at 1 token.
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
            "compressed conditions must have one mean number of tokens per frame and end at 1, and "
            f"with {model.llm.num_hidden_layers} layers and {model.projector.tokens_per_frame} "
            f"tokens they are: {listed}. Change drop_after_layers, strides and ratios in "
            "launch/studies/schedules/conditions.py"
        )
    return means.pop()
