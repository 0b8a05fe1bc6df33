"""Compiles kernels for a described machine; started by the tests, prints JSON.

python -m tests.ops.compile_program v5e small scores_small
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from typing import Any

from xcomp_jax.launch.preflight.environment import ENVIRONMENT

os.environ.update(ENVIRONMENT)

import jax
import jax.numpy as jnp

from xcomp_jax.launch.preflight.machines import MACHINES, described, shape
from xcomp_jax.ops.attention import attention, pallas_gpu, pallas_tpu
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.clip_scores import Segments, TextRows, clip_scores
from xcomp_jax.ops.target import current_target


@dataclasses.dataclass(frozen=True)
class AttentionCase:
    """Call of `attention`; before: keys of a cached prefix, with the log-sum-exp returned too."""

    batch: int
    rows: int
    heads: int
    kv_heads: int
    size: int
    causal: bool
    masked: bool
    backward: bool = False
    before: int = 0
    bad_blocks: bool = False


@dataclasses.dataclass(frozen=True)
class ClipCase:
    segments: Segments
    rows: int


@dataclasses.dataclass(frozen=True)
class CachedCase:
    """Rows over a cache, with space for `room` tokens of text.

    The implementation for a single row is always selected by `cached_attention`.
    """

    rows: int
    cached: int
    room: int


CASES: dict[str, AttentionCase | ClipCase | CachedCase] = {
    "small": AttentionCase(1, 2048, 12, 2, 128, causal=True, masked=True),
    "small_backward": AttentionCase(1, 2048, 12, 2, 128, True, True, backward=True),
    "scores_small": ClipCase(Segments(20, 40, 8, 4), rows=64),
    "encoder": AttentionCase(4, 6272, 16, 16, 64, causal=False, masked=False),
    "encoder_backward": AttentionCase(4, 6272, 16, 16, 64, False, False, backward=True),
    "decoder_2b": AttentionCase(1, 17_247, 12, 2, 128, causal=True, masked=True),
    "decoder_2b_backward": AttentionCase(1, 17_247, 12, 2, 128, True, True, backward=True),
    "decoder_2b_64k": AttentionCase(1, 66_399, 12, 2, 128, causal=True, masked=True),
    "decoder_2b_64k_backward": AttentionCase(1, 66_399, 12, 2, 128, True, True, backward=True),
    "decoder_7b_backward": AttentionCase(1, 17_247, 28, 4, 128, True, True, backward=True),
    "cached_prefix": AttentionCase(1, 512, 12, 2, 128, True, True, before=16_384),
    # Its block tables exceed the scalar memory of a TPU.
    "decoder_2b_600k_backward": AttentionCase(1, 600_000, 12, 2, 128, True, True, backward=True),
    "question_rows": CachedCase(863, cached=17_247, room=1024),
    "decoded_token": CachedCase(1, cached=17_408, room=64),
    "bad_blocks": AttentionCase(1, 32_768, 12, 2, 128, True, True, bad_blocks=True),
    "scores_16_tokens": ClipCase(Segments(72, 128, 8, 4), rows=1024),
    "scores_5_tokens": ClipCase(Segments(72, 40, 8, 4), rows=32),
    "scores_1_token": ClipCase(Segments(72, 8, 8, 1), rows=1024),
    "scores_global": ClipCase(Segments(72, 128, 72, 72), rows=1024),
}


def main(machine: str, implementation: str | None, names: list[str]) -> None:
    """Prints {case: kernels and memory of the compiled program}."""
    results = {}
    for name in names:
        case = CASES[name]
        with described(machine) as mesh:
            make = functools.partial(shape, mesh)
            if isinstance(case, AttentionCase):
                function, arrays = _attention(case, implementation, make)
            elif isinstance(case, CachedCase):
                function, arrays = _cached(case, implementation, make)
            else:
                function, arrays = _clip_scores(case, implementation, make)
            results[name] = _compiled(function, arrays)
    print(json.dumps({"platform": MACHINES[machine].platform, "results": results}))


def _compiled(function: Any, arrays: Any) -> dict[str, Any]:
    try:
        program = jax.jit(function).lower(*arrays).compile()
    except Exception as error:
        return {"error": str(error)[:2000]}
    memory, text = program.memory_analysis(), program.as_text()
    calls = (
        "pair_attention",
        "splash_mha_fwd",
        "splash_mha_dq",
        "splash_mha_dkv",
        "attention_forward",
        "attention_query_gradient",
        "attention_key_value_gradients",
        "clip_scores",
        "cudnn",
        "tpu_custom_call",
        "__gpu$xla.gpu.triton",
    )
    return {
        "calls": [call for call in calls if call in text],
        "temporary": memory.temp_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "output": memory.output_size_in_bytes,
    }


def _attention(case: AttentionCase, implementation: str | None, make: Any) -> Any:
    keys = case.rows + case.before
    arrays = (
        make((case.batch, case.rows, case.heads, case.size), jnp.bfloat16),
        make((case.batch, keys, case.kv_heads, case.size), jnp.bfloat16),
        make((case.batch, keys, case.kv_heads, case.size), jnp.bfloat16),
        make((case.batch, keys), jnp.bool_),
    )

    def attend(query: Any, key: Any, value: Any, mask: Any) -> Any:
        seen = mask if case.masked else None
        if case.bad_blocks:
            return _with_bad_blocks(query, key, value, seen)
        return attention(
            query,
            key,
            value,
            causal=case.causal,
            key_mask=seen,
            query_offset=case.before,
            implementation=implementation,
            return_lse=case.before > 0,
        )

    def gradients(query: Any, key: Any, value: Any, mask: Any) -> Any:
        out, pull = jax.vjp(lambda *x: attend(*x, mask), query, key, value)
        return pull(out)

    return (gradients if case.backward else attend), arrays


def _cached(case: CachedCase, implementation: str | None, make: Any) -> Any:
    named = implementation if case.rows > 1 else None

    def pair(tokens: int) -> Any:
        return (make((1, tokens, 2, 128), jnp.bfloat16),) * 2

    arrays = (
        make((1, case.rows, 12, 128), jnp.bfloat16),
        pair(case.cached),
        make((1, case.cached), jnp.bool_),
        pair(case.room),
        make((1,), jnp.int32),
    )
    return functools.partial(cached_attention, implementation=named), arrays


def _with_bad_blocks(query: Any, key: Any, value: Any, mask: Any) -> Any:
    """Runs attention with blocks that exceed the fast memory of every chip."""
    problem = Problem.of(query, key, value, True, mask, 0, False)
    target = current_target()
    module: Any = pallas_tpu if target.platform == "tpu" else pallas_gpu
    # Larger ones would be refused as well, after minutes of compiling.
    sizes = {"forward_queries": 256, "forward_keys": 256}
    if target.platform == "tpu":
        sizes = {"forward_queries": 4096, "forward_keys": 2048, "forward_compute": 2048}
    blocks = module.BlockSizes(**sizes)
    return module.attention(problem, query, key, value, mask, target=target, blocks=blocks)[0]


def _clip_scores(case: ClipCase, implementation: str | None, make: Any) -> Any:
    visual = case.segments.num_clips * case.segments.clip_tokens
    arrays = (
        make((1, case.rows, 12, 128), jnp.bfloat16),
        make((1, 32, 2, 128), jnp.bfloat16),
        make((1, visual, 2, 128), jnp.bfloat16),
        make((1, case.rows, 2, 128), jnp.bfloat16),
        TextRows(*(make((1,), jnp.int32),) * 4),
    )

    def score(*inputs: Any) -> Any:
        *keys, rows = inputs
        return clip_scores(
            *keys,
            segments=case.segments,
            rows=rows,
            rope_theta=1e6,
            implementation=implementation,
        )

    return score, arrays


if __name__ == "__main__":
    machine, *rest = sys.argv[1:]
    named, *cases = rest if rest and rest[0] in ("pallas_gpu", "cudnn", "xla") else (None, *rest)
    main(machine, named, cases)
