"""LP-Comp schedules: the number of tokens per frame in every decoder layer.

Everything here is Python integers, known before tracing: shapes stay static, layers of equal count
share one scan, and a test is a literal tuple. Layers are counted from 0; "after n layers" means
between layers n-1 and n, as in the original (docs/reference_behaviour.md#lp-comp).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

from xcomp_jax.config import CompressionConfig, ConfigError


@dataclasses.dataclass(frozen=True)
class Drop:
    """One reduction of the visual tokens between two layers.

    The visual tokens are cut into runs of `run` consecutive ones; of each run the positions `keep`
    remain (in order), or, with `average`, its mean replaces it.
    """

    run: int
    keep: tuple[int, ...]
    average: bool = False

    @property
    def tokens_per_run(self) -> int:
        """Tokens that remain of each run."""
        return 1 if self.average else len(self.keep)


@dataclasses.dataclass(frozen=True)
class RankedDrop:
    """The base model's reduction between two layers (see `compression.ranking`).

    ratio: share of the video's original tokens that remains.
    by_attention: keep the most attended tokens instead of evenly spread ones.
    """

    ratio: float
    by_attention: bool

    def token_count(self, original: int) -> int:
        """Tokens that remain of a video of `original` tokens, truncated as in the base model."""
        return int(original * self.ratio)


@dataclasses.dataclass(frozen=True)
class LayerGroup:
    """Consecutive layers that see the same tokens; `drop` precedes the first of them."""

    num_layers: int
    drop: Drop | RankedDrop | None = None

    def visual_length(self, length: Any) -> Any:
        """Computes the visual tokens of this group from those of the group before (LP-Comp only).

        Args:
            length: an int or an integer array.

        Raises:
            ConfigError: a static length that the drop's run does not divide.
        """
        if self.drop is None:
            return length
        assert isinstance(self.drop, Drop), "ranked drops are shares of the original tokens"
        if isinstance(length, int) and length % self.drop.run:
            raise ConfigError(
                f"{length} visual tokens cannot be taken in runs of {self.drop.run}: "
                "use a frame count (or bucket) that the compression strides divide"
            )
        return length // self.drop.run * self.drop.tokens_per_run


def check_visual_length(layer_groups: tuple[LayerGroup, ...], length: int) -> None:
    """Raises ConfigError unless all layer groups can divide `length` visual tokens."""
    for group in layer_groups:
        if not isinstance(group.drop, RankedDrop):
            length = group.visual_length(length)


def smallest_run(layer_groups: tuple[LayerGroup, ...]) -> int:
    """Computes the fewest consecutive visual tokens that LP-Comp compresses independently.

    16 for the published schedule: one frame.
    """
    run = remaining = 1
    for group in layer_groups:
        if isinstance(group.drop, Drop):
            factor = group.drop.run // math.gcd(remaining, group.drop.run)
            run *= factor
            remaining = remaining * factor // group.drop.run * group.drop.tokens_per_run
    return run


def cosine_token_counts(num_layers: int, tokens_per_frame: int) -> tuple[int, ...]:
    """Computes tokens per frame for each layer; (28, 16) gives 16,16,16,15,15,...,2,2,1,1,1,1.

    Half-up rounding of a half cosine from `tokens_per_frame` to 1, as the code behind the published
    numbers computes it; the paper's formula rounds up instead. The first layer always sees every
    token: in shallow models (at 16 tokens: fewer than nine layers) the original's formula would
    drop tokens before the first layer, where its forward pass cannot drop.
    """

    def count(layer: int) -> int:
        height = 0.5 * (1 + math.cos(math.pi * (layer + 1) / num_layers))
        return 1 + int((tokens_per_frame - 1) * height + 0.5)

    return (tokens_per_frame, *(count(layer) for layer in range(1, num_layers)))


def coarsen(counts: tuple[int, ...], max_distinct: int) -> tuple[int, ...]:
    """Finds the cheapest non-increasing counts of at most `max_distinct` values above `counts`.

    Named departure (`compression.max_distinct_lengths`): no layer has fewer tokens than published,
    the first and last layer keep their count, and the total number of tokens is the least possible.
    """
    # best[j][n]: least total over the first j layers in exactly n runs, and the start of the last
    # run. A run costs its first (largest) count at each of its layers.
    layers = len(counts)
    tail = next(i for i in range(layers) if counts[i] == counts[-1])
    infinity = math.inf
    best: list[list[tuple[float, int]]] = [[(infinity, 0)] * (max_distinct + 1) for _ in counts]
    best.append([(infinity, 0)] * (max_distinct + 1))
    best[0][0] = (0, 0)
    for end in range(1, layers + 1):
        for runs in range(1, max_distinct + 1):
            for start in range(end):
                if start < tail < end:
                    continue  # a run across the tail would keep more than the last count at the end
                total = best[start][runs - 1][0] + counts[start] * (end - start)
                if total < best[end][runs][0]:
                    best[end][runs] = (total, start)
    runs = min(range(1, max_distinct + 1), key=lambda n: best[layers][n][0])
    coarse: list[int] = []
    end = layers
    while end > 0:
        start = best[end][runs][1]
        coarse = [counts[start]] * (end - start) + coarse
        end, runs = start, runs - 1
    return tuple(coarse)


def uniform_survivors(tokens_per_frame: int) -> dict[int, tuple[int, ...]]:
    """Selects evenly spread tokens of a frame for every count; the sets are nested.

    From n to n-1 the token is dropped whose absence brings the others nearest (least squares, the
    last one not counted, first candidate on ties) to n-1 equidistant places ending at the frame's
    last. This is the original's rule without ALWAYS_SUFFIX. Positions count from 0.
    """

    def distance(tokens: tuple[int, ...]) -> float:
        return sum(
            ((place + 1) / len(tokens) * tokens_per_frame - (token + 1)) ** 2
            for place, token in enumerate(tokens[:-1])
        )

    tokens = tuple(range(tokens_per_frame))
    survivors = {tokens_per_frame: tokens}
    while len(tokens) > 1:
        tokens = min(
            (tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))),
            key=distance,
        )
        survivors[len(tokens)] = tokens
    return survivors


def plan_layer_groups(
    compression: CompressionConfig, *, num_layers: int, tokens_per_frame: int
) -> tuple[LayerGroup, ...]:
    """Cuts the decoder into groups of layers that see the same tokens.

    Raises:
        ConfigError: a stepwise stride does not divide the tokens of a frame.
    """
    if compression.schedule == "none":
        return (LayerGroup(num_layers),)
    drops: tuple[Drop | RankedDrop, ...]
    starts: tuple[int, ...] = (0, *compression.drop_after_layers)
    if compression.schedule == "stepwise":
        drops = _stepwise_drops(compression, tokens_per_frame)
    elif compression.schedule == "ranked":
        drops = _ranked_drops(compression)
    else:
        counts = cosine_token_counts(num_layers, tokens_per_frame)
        if compression.max_distinct_lengths is not None:
            counts = coarsen(counts, compression.max_distinct_lengths)
        starts = (0, *(i for i in range(1, num_layers) if counts[i] != counts[i - 1]))
        drops = _per_frame_drops(compression.keep, tuple(counts[i] for i in starts))
    ends = (*starts[1:], num_layers)
    return tuple(
        LayerGroup(end - start, drop)
        for start, end, drop in zip(starts, ends, (None, *drops), strict=True)
    )


def _per_frame_drops(keep: str, counts: tuple[int, ...]) -> tuple[Drop, ...]:
    uniform = uniform_survivors(counts[0])
    drops = []
    for before, after in itertools.pairwise(counts):
        if keep == "suffix":
            positions = tuple(range(before - after, before))
        else:
            positions = tuple(uniform[before].index(token) for token in uniform[after])
        drops.append(Drop(run=before, keep=positions))
    return tuple(drops)


def _stepwise_drops(compression: CompressionConfig, tokens_per_frame: int) -> tuple[Drop, ...]:
    """Plans stepwise drops; `uniform` is the original's `nexthalf`, the last token of a run."""
    if compression.keep == "average":
        return tuple(Drop(run=s, keep=(), average=True) for s in compression.strides)
    if compression.keep == "uniform":
        return tuple(Drop(run=s, keep=(s - 1,)) for s in compression.strides)
    counts = [tokens_per_frame]
    for stride in compression.strides:
        if counts[-1] % stride:
            raise ConfigError(
                f"compression.strides={compression.strides} with keep='suffix': stride {stride} "
                f"must divide the {counts[-1]} remaining tokens of a frame"
            )
        counts.append(counts[-1] // stride)
    return _per_frame_drops("suffix", tuple(counts))


def _ranked_drops(compression: CompressionConfig) -> tuple[RankedDrop, ...]:
    uniform = {
        "attention": 0,
        "uniform0_attention": 1,
        "uniform1_attention": 2,
        "uniform": len(compression.ratios),
    }
    assert compression.ranking is not None
    first = uniform[compression.ranking]
    return tuple(
        RankedDrop(ratio, by_attention=i >= first) for i, ratio in enumerate(compression.ratios)
    )


def tokens_per_frame_by_layer(
    layer_groups: tuple[LayerGroup, ...], tokens_per_frame: int
) -> tuple[float, ...]:
    """Computes tokens per frame in each layer (a fraction once a run spans several frames).

    A ranked drop selects from the whole video, so its number is the mean over the frames.
    """
    counts: list[float] = []
    current = float(tokens_per_frame)
    for group in layer_groups:
        if isinstance(group.drop, RankedDrop):
            current = tokens_per_frame * group.drop.ratio
        elif group.drop is not None:
            current = current / group.drop.run * group.drop.tokens_per_run
        counts += [current] * group.num_layers
    return tuple(int(c) if c == int(c) else c for c in counts)
