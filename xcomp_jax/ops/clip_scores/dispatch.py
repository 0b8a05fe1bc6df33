"""Clip scores: one interface over all implementations, and their selection."""

from __future__ import annotations

from typing import Any

from jax import Array
from jaxtyping import Float

from xcomp_jax.ops.choice import choose
from xcomp_jax.ops.clip_scores import pallas_gpu, pallas_tpu, reference
from xcomp_jax.ops.clip_scores.prepare import scores_by
from xcomp_jax.ops.clip_scores.reference import Segments, TextRows
from xcomp_jax.ops.partition import over_batch
from xcomp_jax.ops.rope import RopeBase
from xcomp_jax.ops.target import Target, current_target

IMPLEMENTATIONS = ("xla", "pallas_tpu", "pallas_gpu")
PREFERRED = {"cpu": ("xla",), "tpu": ("pallas_tpu", "xla"), "gpu": ("pallas_gpu", "xla")}


def clip_scores(
    query: Float[Array, "B Q N H"],
    prefix_key: Float[Array, "B prefix K H"],
    visual_key: Float[Array, "B V K H"],
    text_key: Float[Array, "B Q K H"],
    *,
    segments: Segments,
    rows: TextRows,
    rope_theta: RopeBase,
    implementation: str | None = None,
) -> Float[Array, "B {segments.count} {segments.size}"]:
    """Computes the mean attention of the question's rows to each clip, segment by segment.

    Queries and keys come before rotation. Only the definition (`xla`) is differentiable.

    Args:
        query: rows of the text after the video.
        prefix_key, text_key: both padded on the right.
        visual_key: with V >= num_clips * clip_tokens; later ones are ignored.
        implementation: one of IMPLEMENTATIONS; None selects the best that supports the inputs on
            the platform the program is compiled for (`ops.target`).

    Returns:
        float32 mean over heads, question rows and the clip's tokens. NaN where there is no question
        row, as in the original.

    Raises:
        ValueError: too few visual keys, or a named implementation that refuses, with the reason.
    """
    needed = segments.num_clips * segments.clip_tokens
    if visual_key.shape[1] < needed:
        raise ValueError(f"{visual_key.shape=}: {segments} need {needed} keys")
    target = current_target()
    name = _selected(query, visual_key, segments, target, implementation)
    options: Any = {"segments": segments, "rope_theta": rope_theta}
    if name == "xla":  # which the compiler itself splits over a mesh
        return reference.clip_scores(query, prefix_key, visual_key, text_key, rows=rows, **options)
    sums = pallas_tpu.sums if name == "pallas_tpu" else pallas_gpu.sums

    def kernel(
        query: Array, prefix_key: Array, visual_key: Array, text_key: Array, rows: TextRows
    ) -> Array:
        arrays = (query, prefix_key, visual_key, text_key)
        return scores_by(sums, *arrays, rows=rows, target=target, **options)

    return over_batch(kernel, query, prefix_key, visual_key, text_key, rows)


def _selected(
    query: Array,
    visual_key: Array,
    segments: Segments,
    target: Target,
    implementation: str | None,
) -> str:
    return choose(
        "clip_scores",
        implementation,
        {
            "xla": lambda: None,
            "pallas_tpu": lambda: pallas_tpu.refusal(query, visual_key, segments, target),
            "pallas_gpu": lambda: pallas_gpu.refusal(query, segments, target),
        },
        PREFERRED.get(target.platform, ("xla",)),
    )
