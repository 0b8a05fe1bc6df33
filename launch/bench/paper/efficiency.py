"""Table E: operations and time of one query, without and with compression."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from xcomp_jax.compression.schedule import LayerGroup, plan_layer_groups
from xcomp_jax.config import ModelConfig
from xcomp_jax.engine.engine import Engine
from xcomp_jax.flops import prefill_flops
from xcomp_jax.inference.session import Session
from xcomp_jax.launch.bench.paper.compressions import compressions
from xcomp_jax.launch.bench.paper.report import Section
from xcomp_jax.variants import XCOMP_2B

TEXT_TOKENS = 863
"""Text tokens of the paper's query."""

ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Published:
    """Published TFLOP and seconds on one H200, without and with compression."""

    frames: int
    tflop: tuple[float, float]
    seconds: tuple[float, float]


PUBLISHED = (
    Published(1024, (43, 20), (0.22, 0.12)),
    Published(2048, (132, 58), (0.54, 0.25)),
    Published(4096, (448, 187), (1.56, 0.66)),
)

TOY_FRAMES = (256, 512, 1024)


def sections(session: Session | None, frames: Sequence[int], device: str) -> list[Section]:
    """Counts operations of the 2B model and measures the time of `session`, if any.

    Args:
        frames: numbers of frames to measure.
        device: name of the device, for the note.
    """
    counted = Section(
        "Operations of the language model, counted for the 2B model",
        [
            f"One query of {TEXT_TOKENS} text tokens, without -> with compression. The published "
            "figures fit a count of multiply-adds, with all pairs of tokens in attention; the last "
            "two columns count two operations per multiply-add and only causal pairs "
            "(xcomp_jax.flops).",
        ],
        [
            "frames",
            "published, TFLOP",
            "published ratio",
            "here, 10^12 multiply-adds, all pairs",
            "here, TFLOP, causal pairs",
            "ratio here",
        ],
        [_counted(row) for row in PUBLISHED],
    )
    if session is None:
        return [counted]
    measured = Section(
        "Time of the language model, measured",
        [
            f"Prefill of video and text on {device}, median of {ROUNDS} runs after one that "
            "compiles, with the fastest and the slowest. Published times are of the 2B model on an "
            "H200.",
        ],
        ["frames", "published, s", "here, s: no compression", "here, s: compressed", "ratio here"],
        [_measured(session, count) for count in frames],
    )
    return [counted, measured]


def query_tflop(model: ModelConfig, name: str, frames: int, *, all_pairs: bool = False) -> float:
    """Counts the decoder over one query with a compression of `compressions`.

    Args:
        all_pairs: count masked pairs of tokens in attention too.
    """
    groups = layer_groups(model, name)
    visual = frames * model.projector.tokens_per_frame
    operations = prefill_flops(
        model, groups, text=TEXT_TOKENS, visual=visual, as_computed=all_pairs
    )
    return operations / 1e12


def layer_groups(model: ModelConfig, name: str) -> tuple[LayerGroup, ...]:
    return plan_layer_groups(
        compressions(model)[name],
        num_layers=model.llm.num_hidden_layers,
        tokens_per_frame=model.projector.tokens_per_frame,
    )


def _counted(row: Published) -> list[str]:
    names = ("none", "progressive")
    plain, kept = (query_tflop(XCOMP_2B, name, row.frames) for name in names)
    pairs = [query_tflop(XCOMP_2B, name, row.frames, all_pairs=True) / 2 for name in names]
    return [
        f"{row.frames:,}",
        f"{row.tflop[0]:g} -> {row.tflop[1]:g}",
        f"{row.tflop[0] / row.tflop[1]:.2f}",
        f"{pairs[0]:.0f} -> {pairs[1]:.0f}",
        f"{plain:.0f} -> {kept:.0f}",
        f"{plain / kept:.2f}",
    ]


def _measured(session: Session, frames: int) -> list[str]:
    plain, compressed = (_seconds(session, name, frames) for name in ("none", "progressive"))
    published = next((row.seconds for row in PUBLISHED if row.frames == frames), None)
    shown = "" if published is None else f"{published[0]:g} -> {published[1]:g}"
    ratio = np.median(plain) / np.median(compressed)
    return [f"{frames:,}", shown, _times(plain), _times(compressed), f"{ratio:.2f}"]


def _times(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.2f} [{min(seconds):.2f}, {max(seconds):.2f}]"


def _seconds(session: Session, name: str, frames: int) -> list[float]:
    """Times a prefill of random visual tokens and of as many text tokens as the paper's query."""
    config = dataclasses.replace(session.config, compression=compressions(session.config)[name])
    engine = Engine(config, session.params, mesh=session.engine.placement.mesh)
    rng = np.random.default_rng(0)
    count = frames * config.projector.tokens_per_frame
    visual = rng.normal(size=(count, config.llm.hidden_size)).astype(config.compute_dtype)
    text = rng.integers(0, len(session.tokenizer), TEXT_TOKENS).tolist()
    taken = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        cache = engine.prefill_video([visual], [()])
        engine.extend(cache, [text], max_new_tokens=1)
        taken.append(time.perf_counter() - began)
    return taken[1:]
