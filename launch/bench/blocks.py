"""Search the fastest block sizes of the kernels on this device, shape by shape."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from xcomp_jax.launch.bench.deadline import Deadline
from xcomp_jax.launch.bench.kernels import attention_inputs, clip_inputs
from xcomp_jax.launch.bench.shapes import (
    ATTENTION,
    CLIPS,
    TINY_ATTENTION,
    TINY_CLIPS,
    AttentionShape,
    ClipShape,
)
from xcomp_jax.launch.bench.timing import seconds
from xcomp_jax.ops import block_sizes
from xcomp_jax.ops.attention import pallas_gpu as gpu_attention
from xcomp_jax.ops.attention import pallas_tpu as tpu_attention
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.clip_scores import pallas_gpu as gpu_scores
from xcomp_jax.ops.clip_scores import pallas_tpu as tpu_scores
from xcomp_jax.ops.clip_scores.prepare import scores_by, table_key
from xcomp_jax.ops.target import current_target

Row = dict[str, Any]
Sizes = dict[str, int]
Run = Callable[[bool, Sizes], float]  # (with gradients, changed block sizes) -> seconds

# The groups of fields are searched one after another, each over all combinations.
SEARCH: dict[tuple[str, str], list[dict[str, tuple[int, ...]]]] = {
    ("attention", "tpu"): [
        {
            "forward_queries": (512, 1024, 2048),
            "forward_keys": (512, 1024, 2048),
            "forward_compute": (256, 512, 1024),
        },
        {"dkv_queries": (512, 1024), "dkv_keys": (512, 1024, 2048), "dkv_compute": (256, 512)},
        {"dq_queries": (512, 1024, 2048), "dq_keys": (512, 1024, 2048)},
    ],
    ("attention", "gpu"): [
        {
            "forward_queries": (64, 128),
            "forward_keys": (32, 64, 128),
            "forward_warps": (4, 8),
            "forward_stages": (2, 3),
        },
        {
            "backward_queries": (32, 64, 128),
            "backward_keys": (32, 64, 128),
            "backward_warps": (4, 8),
            "backward_stages": (1, 2),
        },
    ],
    ("clip_scores", "tpu"): [{"rows": (64, 128, 256), "keys": (256, 512, 1024)}],
    ("clip_scores", "gpu"): [
        {"rows": (32, 64, 128), "keys": (32, 64, 128), "warps": (4, 8), "stages": (1, 2, 3)}
    ],
}


def measure(deadline: Deadline, *, tiny: bool = False) -> Iterator[Row]:
    """Yields the fastest block sizes of every shape, and the times with them and the default.

    Args:
        tiny: tiny shapes with one candidate each. Without an accelerator the kernels of both
            platforms run in interpret mode, whose times are meaningless.

    Raises:
        ValueError: the device is neither a TPU nor a GPU.
    """
    platform = current_target().platform
    interpret = tiny and platform == "cpu"
    if platform not in ("tpu", "gpu") and not interpret:
        raise ValueError(
            f"block sizes are measured on a TPU or GPU, and this is a {platform}; --tiny runs the "
            "same steps in interpret mode"
        )
    attentions, clips = (TINY_ATTENTION, TINY_CLIPS) if tiny else (ATTENTION, CLIPS)
    for name in ("tpu", "gpu") if interpret else (platform,):
        for shape in (*attentions, *clips):
            row = {"shape": shape.name, "kernel": f"pallas_{name}"}
            if deadline.passed:
                yield {**row, "note": "not measured: out of time"}
                continue
            is_attention = isinstance(shape, AttentionShape)
            groups = SEARCH["attention" if is_attention else "clip_scores", name]
            if tiny:
                groups = [{field: sizes[:1] for field, sizes in group.items()} for group in groups]
            key, run = (
                _attention(shape, name, interpret)
                if is_attention
                else _clips(shape, name, interpret)
            )
            yield {**row, "key": key, **_search(groups, run, deadline)}


def add_to_table(rows: list[Row]) -> None:
    """Adds the sizes that beat the default to the kernels' table, for this device."""
    table = json.loads(block_sizes.TABLE.read_text(encoding="utf-8"))
    sizes = table.setdefault(current_target().device_kind, {})
    sizes |= {
        row["key"]: json.loads(row["sizes"]) for row in rows if row.get("sizes", "{}") != "{}"
    }
    block_sizes.TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", "utf-8")


def _attention(shape: AttentionShape, platform: str, interpret: bool) -> tuple[str, Run]:
    """Returns the shape's key in the table, and a function that times block sizes."""
    module: Any = tpu_attention if platform == "tpu" else gpu_attention
    query, key, value, real = attention_inputs(shape, jnp.bfloat16)
    mask = real if shape.masked else None
    problem = Problem.of(query, key, value, shape.causal, mask, 0, False)
    options = {"target": current_target(), "interpret": interpret}

    def run(backward: bool, sizes: Sizes) -> float:
        blocks = dataclasses.replace(module.BlockSizes(), **sizes)

        def attend(*inputs: Any) -> Any:
            return module.attention(problem, *inputs, mask, blocks=blocks, **options)[0]

        def both(*inputs: Any) -> Any:
            out, pull = jax.vjp(attend, *inputs)
            return pull(out)

        return seconds(jax.jit(both if backward else attend), query, key, value, budget=0.1)

    return problem.table_key, run


def _clips(shape: ClipShape, platform: str, interpret: bool) -> tuple[str, Run]:
    module: Any = tpu_scores if platform == "tpu" else gpu_scores
    *arrays, rows = clip_inputs(shape, jnp.bfloat16)
    score = functools.partial(
        scores_by,
        module.sums,
        segments=shape.segments,
        rows=rows,
        rope_theta=1e6,
        target=current_target(),
        interpret=interpret,
    )

    def run(backward: bool, sizes: Sizes) -> float:
        blocks = dataclasses.replace(module.BlockSizes(), **sizes)
        return seconds(jax.jit(functools.partial(score, blocks=blocks)), *arrays, budget=0.1)

    return table_key(arrays[0], shape.segments), run


def _search(groups: list[dict[str, tuple[int, ...]]], run: Run, deadline: Deadline) -> Row:
    """Searches the first group by the forward pass, the others by both passes."""
    best: Sizes = {}
    row: Row = {}
    for index, group in enumerate(groups):
        backward = index > 0
        default = fastest = run(backward, best)
        group_best: Sizes = {}
        for values in itertools.product(*group.values()):
            if deadline.passed:
                break
            sizes = dict(zip(group, values, strict=True))
            try:
                call_seconds = run(backward, {**best, **sizes})
            except Exception:  # too large for this device
                continue
            if call_seconds < 0.98 * fastest:  # smaller gains are noise
                fastest, group_best = call_seconds, sizes
        best |= group_best
        name = "backward" if backward else "forward"
        row |= {f"{name} default ms": 1e3 * default, f"{name} ms": 1e3 * fastest}
    return {**row, "sizes": json.dumps(best)}
