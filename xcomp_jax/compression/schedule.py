"""LP-Comp schedules: how many tokens of every frame each decoder layer sees.

Everything here is Python integers, known before tracing: shapes stay static, layers of equal count
share one scan, and a test is a literal tuple. Layers are counted from 0; "after n layers" means
between layers n-1 and n, as in the original (facts: LP-Comp in the LLM).
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

    The visual tokens are taken in runs of `group` consecutive ones; of each run the positions
    `keep` survive (in order), or, with `average`, its mean replaces it.
    """

    group: int
    keep: tuple[int, ...]
    average: bool = False

    @property
    def kept(self) -> int:
        """Tokens left of each group."""
        return 1 if self.average else len(self.keep)


@dataclasses.dataclass(frozen=True)
class RankedDrop:
    """The base model's reduction between two layers (see `compression.ranking`).

    ratio: share of the tokens the video began with.
    by_attention: the tokens looked at most stay; otherwise tokens spread evenly.
    """

    ratio: float
    by_attention: bool

    def kept(self, original: int) -> int:
        """Tokens left of a video of `original` tokens; truncated as the base model does."""
        return int(original * self.ratio)


@dataclasses.dataclass(frozen=True)
class LayerGroup:
    """Consecutive layers that see the same tokens; `drop` happens before the first of them."""

    num_layers: int
    drop: Drop | RankedDrop | None = None

    def visual_length(self, length: Any) -> Any:
        """Visual tokens in this stage, given those of the stage before, for LP-Comp's drops.

        An int, or a traced array of them. Raises ConfigError when a static length does not divide.
        """
        if self.drop is None:
            return length
        assert isinstance(self.drop, Drop), "ranked drops count from the video's beginning"
        if isinstance(length, int) and length % self.drop.group:
            raise ConfigError(
                f"{length} visual tokens cannot be taken in runs of {self.drop.group}: "
                "use a frame count (or bucket) that the compression strides divide"
            )
        return length // self.drop.group * self.drop.kept


def check_visual_length(layer_groups: tuple[LayerGroup, ...], length: int) -> None:
    """Raises ConfigError unless `length` visual tokens can be taken through all stages."""
    for stage in layer_groups:
        if not isinstance(stage.drop, RankedDrop):
            length = stage.visual_length(length)


def smallest_run(layer_groups: tuple[LayerGroup, ...]) -> int:
    """Fewest consecutive visual tokens that LP-Comp's drops take through all stages by themselves.

    16 for the published schedule: one frame.
    """
    run = left = 1
    for stage in layer_groups:
        if isinstance(stage.drop, Drop):
            times = stage.drop.group // math.gcd(left, stage.drop.group)
            run, left = run * times, left * times // stage.drop.group * stage.drop.kept
    return run


def cosine_token_counts(num_layers: int, tokens_per_frame: int) -> tuple[int, ...]:
    """Tokens per frame entering each layer; (28, 16) gives 16,16,16,15,15,14,14,...,2,2,1,1,1,1.

    Half-up rounding of a half cosine from `tokens_per_frame` to 1, as the code behind the published
    numbers computes it; the paper's formula rounds up instead. The first layer always sees every
    token: in shallow models (at 16 tokens: fewer than nine layers) the original's formula would
    drop tokens nobody has read, at a place where its forward pass cannot drop.
    """

    def count(layer: int) -> int:
        height = 0.5 * (1 + math.cos(math.pi * (layer + 1) / num_layers))
        return 1 + int((tokens_per_frame - 1) * height + 0.5)

    return (tokens_per_frame, *(count(layer) for layer in range(1, num_layers)))


def coarsen(counts: tuple[int, ...], max_distinct: int) -> tuple[int, ...]:
    """The cheapest non-increasing counts with at most `max_distinct` values, nowhere below
    `counts`.

    Named departure (`compression.max_distinct_lengths`): no token leaves earlier than published,
    the first and last layer keep their count, and the total number of tokens is the least possible.
    """
    # best[j][n]: least total over the first j layers in exactly n runs, and where the last run
    # began. A run costs its first (largest) count at each of its layers.
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
    """Which tokens of a frame are left at every count, when spread evenly; nested sets.

    From n to n-1 the token leaves whose absence brings the survivors nearest (least squares, the
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
    """Cuts the decoder into stages of layers that see the same tokens.

    Raises:
        ConfigError: when a stepwise stride does not divide what it has to divide.
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
    survivors = uniform_survivors(counts[0])
    drops = []
    for before, after in itertools.pairwise(counts):
        if keep == "suffix":
            positions = tuple(range(before - after, before))
        else:
            positions = tuple(survivors[before].index(token) for token in survivors[after])
        drops.append(Drop(group=before, keep=positions))
    return tuple(drops)


def _stepwise_drops(compression: CompressionConfig, tokens_per_frame: int) -> tuple[Drop, ...]:
    """`uniform` is the original's `nexthalf`: the last token of every run of `stride`."""
    if compression.keep == "average":
        return tuple(Drop(group=s, keep=(), average=True) for s in compression.strides)
    if compression.keep == "uniform":
        return tuple(Drop(group=s, keep=(s - 1,)) for s in compression.strides)
    counts = [tokens_per_frame]
    for stride in compression.strides:
        if counts[-1] % stride:
            raise ConfigError(
                f"compression.strides={compression.strides} with keep='suffix': stride {stride} "
                f"must divide the {counts[-1]} tokens of a frame that are left"
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
    """Tokens of a frame seen by each layer (a fraction once a run spans several frames).

    A ranked drop picks from the whole video, so its number is the mean over the frames.
    """
    counts: list[float] = []
    current = float(tokens_per_frame)
    for stage in layer_groups:
        if isinstance(stage.drop, RankedDrop):
            current = tokens_per_frame * stage.drop.ratio
        elif stage.drop is not None:
            current = current / stage.drop.group * stage.drop.kept
        counts += [current] * stage.num_layers
    return tuple(int(c) if c == int(c) else c for c in counts)
