"""Names the compressions of the tables for a model of any depth, at equal mean tokens per frame."""

from __future__ import annotations

from xcomp_jax.compression.schedule import cosine_token_counts
from xcomp_jax.config import CompressionConfig, ModelConfig


def compressions(model: ModelConfig) -> dict[str, CompressionConfig]:
    """Returns the compressions by the names that `layouts.TableRow` uses."""
    layers, tokens = model.llm.num_hidden_layers, model.projector.tokens_per_frame
    after, strides = matched_steps(layers, tokens)
    remaining = (tokens // strides[0], 1)
    return {
        "none": CompressionConfig(schedule="none"),
        "progressive": CompressionConfig(schedule="cosine", keep="suffix"),
        "uniform": CompressionConfig(schedule="cosine", keep="uniform"),
        "stepwise": CompressionConfig(
            schedule="stepwise", keep="suffix", drop_after_layers=after, strides=strides
        ),
        "ranked": CompressionConfig(
            schedule="ranked",
            ranking="attention",
            drop_after_layers=after,
            ratios=tuple(count / tokens for count in remaining),
        ),
    }


def matched_steps(layers: int, tokens: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Finds two drops to one token whose mean over the layers is nearest to the cosine schedule's.

    Returns:
        Layers after which tokens are dropped, and strides. Of equal means, the earliest first drop
        wins: the steps are then far apart.

    Raises:
        ValueError: no product of two strides gives `tokens`, or there are fewer than 3 layers.
    """
    target = sum(cosine_token_counts(layers, tokens))
    choices = [
        (abs(_total(layers, tokens, stride, first, second) - target), first, second, stride)
        for stride in range(2, tokens)
        if tokens % stride == 0
        for first in range(1, layers - 1)
        for second in range(first + 1, layers)
    ]
    if not choices:
        raise ValueError(
            f"{tokens} tokens per frame over {layers} layers have no two-step schedule to 1 token; "
            "the tables need 3 layers and a number of tokens that is not prime"
        )
    _, first, second, stride = min(choices)
    return (first, second), (stride, tokens // stride)


def _total(layers: int, tokens: int, stride: int, first: int, second: int) -> int:
    """Sums the tokens per frame over the layers."""
    return tokens * first + tokens // stride * (second - first) + layers - second
