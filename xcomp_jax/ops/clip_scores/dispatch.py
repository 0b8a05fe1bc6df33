"""`clip_scores`: one interface, and the choice of who computes it."""

from __future__ import annotations

from jax import Array

from xcomp_jax.ops.choice import choose
from xcomp_jax.ops.clip_scores import pallas_gpu, pallas_tpu, reference
from xcomp_jax.ops.clip_scores.prepare import scores_by
from xcomp_jax.ops.clip_scores.reference import Segments, TextRows
from xcomp_jax.ops.partition import over_batch
from xcomp_jax.ops.target import current_target

IMPLEMENTATIONS = ("xla", "pallas_tpu", "pallas_gpu")
PREFERRED = {"cpu": ("xla",), "tpu": ("pallas_tpu", "xla"), "gpu": ("pallas_gpu", "xla")}


def clip_scores(
    query: Array,
    prefix_key: Array,
    visual_key: Array,
    text_key: Array,
    *,
    segments: Segments,
    rows: TextRows,
    rope_theta: float,
    implementation: str | None = None,
) -> Array:
    """Mean attention of the question's rows to each clip, segment by segment.

    Queries and keys come before rotation. Only the definition (`xla`) is differentiable.

    Args:
        query: [B, R, N, H] rows of the text after the video.
        prefix_key: [B, P, K, H]; text_key: [B, R, K, H]; both padded on the right.
        visual_key: [B, V, K, H] with V >= num_clips * clip_tokens; later ones are not looked at.
        implementation: one of IMPLEMENTATIONS; None takes the best that accepts the inputs on the
            platform the program is compiled for (`ops.target`).

    Returns:
        [B, segments.count, segments.size] float32: the mean over heads, question rows and the
        clip's tokens. NaN where there is no question row, as in the original.

    Raises:
        ValueError: too few visual keys, or a named implementation that refuses, with the reason.
    """
    needed = segments.num_clips * segments.clip_tokens
    if visual_key.shape[1] < needed:
        raise ValueError(f"{visual_key.shape=}: {segments} need {needed} keys")
    target = current_target()
    chosen = choose(
        "clip_scores",
        implementation,
        {
            "xla": lambda: None,
            "pallas_tpu": lambda: pallas_tpu.refusal(query, visual_key, segments, target),
            "pallas_gpu": lambda: pallas_gpu.refusal(query, segments, target),
        },
        PREFERRED.get(target.platform, ("xla",)),
    )
    if chosen == "xla":  # which XLA itself splits over a mesh
        return reference.clip_scores(
            query,
            prefix_key,
            visual_key,
            text_key,
            segments=segments,
            rows=rows,
            rope_theta=rope_theta,
        )
    sums = pallas_tpu.sums if chosen == "pallas_tpu" else pallas_gpu.sums

    def kernel(
        query: Array, prefix_key: Array, visual_key: Array, text_key: Array, rows: TextRows
    ) -> Array:
        return scores_by(
            sums,
            query,
            prefix_key,
            visual_key,
            text_key,
            segments=segments,
            rows=rows,
            rope_theta=rope_theta,
            target=target,
        )

    return over_batch(kernel, query, prefix_key, visual_key, text_key, rows)
