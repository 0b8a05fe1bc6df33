"""Measure what int8 weights and an int8 KV cache change: errors, bytes, memory and answers."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.config import LLMConfig, ModelConfig
from xcomp_jax.engine import programs
from xcomp_jax.launch.bench.model import PREFIX
from xcomp_jax.launch.bench.results import table
from xcomp_jax.models.decoder_layer import DecoderLayer
from xcomp_jax.models.quantized import cached, dequantize, quantize, quantized_params
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp, abstract_params
from xcomp_jax.ops.attention import attention
from xcomp_jax.variants import XCOMP_2B

DESCRIPTION = """Measures int8 weights and KV cache against bfloat16. errors: relative error of each
product, of whole layers and of attention over the cache, at the 2B model's sizes with random
values, against float32. memory: bytes read per decoded token, and the memory of the compiled
program of a token for an absent device. answers: agreement of the answers to a manifest of
questions."""

EXAMPLES = """examples:
  python -m xcomp_jax.launch.studies.quantization errors
  python -m xcomp_jax.launch.studies.quantization memory v5e --frames 1024
  python -m xcomp_jax.launch.studies.quantization answers runs/smoke/checkpoint questions.json
"""

ROWS = 64
CACHED = 2048
GIB = 1 << 30
Row = dict[str, Any]


def errors(config: LLMConfig) -> Iterator[Row]:
    """Yields relative errors against float32, in percent, on random values of real sizes."""
    rng = np.random.default_rng(0)
    inner, width = config.intermediate_size, config.hidden_size
    kv_width = config.num_key_value_heads * config.head_dim
    for name, inputs, outputs in (
        ("q_proj, o_proj", width, width),
        ("k_proj, v_proj", width, kv_width),
        ("gate_proj, up_proj", width, inner),
        ("down_proj", inner, width),
        ("head", width, config.vocab_size // 8),
    ):
        x = _normal(rng, ROWS, inputs)
        # Channels of unlike size, and a few large weights in each, as in trained models.
        kernel = 0.02 * _normal(rng, inputs, outputs) * np.exp(0.5 * _normal(rng, outputs))
        kernel = np.where(rng.random(kernel.shape) < 1e-4, 8 * kernel, kernel)
        values, scale = quantize(kernel, -2)
        exact = x @ kernel
        half = _bf16(x) @ _bf16(kernel)
        small = _bf16(x) @ dequantize(jnp.asarray(values), jnp.asarray(scale), -2, jnp.bfloat16)
        yield _row(f"{name} [{inputs:,} x {outputs:,}]", exact, half, small)
    yield _layer_errors(rng, config)
    yield _cache_errors(rng, config)


def _layer_errors(rng: np.random.Generator, config: LLMConfig) -> Row:
    def attend(query: Array, key: Array, value: Array) -> tuple[Array, None]:
        return attention(query, key, value, causal=True, implementation="xla"), None

    def output(params: Any, dtype: Any) -> Any:
        layer = DecoderLayer(config, dtype)
        return jax.jit(lambda p, x: layer.apply({"params": p}, x, attend)[0])(
            params, jnp.asarray(x, dtype)
        )

    x = _normal(rng, 1, ROWS, config.hidden_size)
    shapes = jax.eval_shape(
        lambda: DecoderLayer(config, jnp.float32).init(jax.random.key(0), jnp.asarray(x), attend)
    )["params"]
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(
            0.02 * _normal(rng, *leaf.shape) + (path[-1].key == "scale"), jnp.float32
        ),
        shapes,
    )
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    table_of_one = {"embed_tokens": {"embedding": jnp.zeros((1, 1))}}
    small = quantized_params({"llm": {"layers": half, **table_of_one}})["llm"]["layers"]
    return _row(
        "one layer",
        output(params, jnp.float32) - x,
        output(half, jnp.bfloat16) - _bf16(x),
        output(small, jnp.bfloat16) - _bf16(x),
    )


def _cache_errors(rng: np.random.Generator, config: LLMConfig) -> Row:
    size = config.head_dim
    query = _normal(rng, 1, ROWS, config.num_attention_heads, size)
    key, value = (_normal(rng, 1, CACHED, config.num_key_value_heads, size) for _ in range(2))

    def attended(key: Any, value: Any, dtype: Any) -> Any:
        q, k, v = (jnp.asarray(x, dtype) for x in (query, key, value))
        return attention(q, k, v, causal=False, implementation="xla")

    def stored(part: np.ndarray) -> Array:
        values, scale = map(jnp.asarray, quantize(part, -1))
        return cached((values, scale), jnp.bfloat16)

    return _row(
        f"attention to {CACHED:,} cached tokens",
        attended(key, value, jnp.float32),
        attended(key, value, jnp.bfloat16),
        attended(stored(key), stored(value), jnp.bfloat16),
    )


def _row(name: str, exact: Any, half: Any, small: Any) -> Row:
    exact, half, small = (np.asarray(x, np.float32) for x in (exact, half, small))

    def percent(first: np.ndarray, second: np.ndarray) -> float:
        return float(100 * np.linalg.norm(first - second) / np.linalg.norm(second))

    return {
        "product": name,
        "bf16, %": percent(half, exact),
        "int8, %": percent(small, exact),
        "int8 against bf16, %": percent(small, half),
    }


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _bf16(x: Any) -> Array:
    return jnp.asarray(x, jnp.bfloat16)


def memory(machine: str, config: ModelConfig, frames: int) -> Iterator[Row]:
    """Yields the bytes that a decoded token reads, and the memory of its compiled program."""
    from xcomp_jax.launch.preflight.machines import described, shape

    # Parameters and caches are counted exactly, temporary buffers with two distinct lengths.
    coarse = dataclasses.replace(config.compression, max_distinct_lengths=2)
    compiled = dataclasses.replace(config, compression=coarse)
    with described(machine) as mesh:

        def abstract(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: shape(mesh, leaf.shape, leaf.dtype), tree)

        full = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, config.compute_dtype),
            {"llm": abstract_params(config)["llm"]},
        )
        for name, params in (
            (config.dtype, full),
            ("int8", jax.eval_shape(quantized_params, full)),
        ):
            params = abstract(params)
            video = abstract(_video_inputs(config, frames))
            cache = jax.eval_shape(
                lambda p, v: programs.prefill_video(XComp(config), p, *v), params, video
            )
            token = abstract(_token_inputs(config, compiled, params, video))
            decode = programs.extend.lower(XComp(compiled), params, *token).compile()
            yield {
                "weights and cache": name,
                "weights, GiB": _nbytes(params) / GIB,
                f"cache of {frames:,} frames, GiB": _nbytes(cache) / GIB,
                "read per decoded token, GiB": (_nbytes(params) + _nbytes(cache)) / GIB,
                "temporary, MiB": _temporary(decode),
            }


def _video_inputs(config: ModelConfig, frames: int) -> tuple[Any, ...]:
    tokens = frames * config.projector.tokens_per_frame
    length: Any = jax.ShapeDtypeStruct((1,), jnp.int32)
    return (
        jax.ShapeDtypeStruct((1, PREFIX), jnp.int32),
        jax.ShapeDtypeStruct((1, tokens, config.llm.hidden_size), config.compute_dtype),
        Lengths(length, length, length),
    )


def _token_inputs(
    config: ModelConfig, compiled: ModelConfig, params: Any, video: Any
) -> tuple[Any, ...]:
    model = XComp(compiled)
    cache = jax.eval_shape(lambda p, v: programs.prefill_video(model, p, *v), params, video)
    text = jax.eval_shape(lambda p: programs.empty_text_cache(model, p, 1, 256), params)
    count = jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.ShapeDtypeStruct((1, 1), jnp.int32), count, count, cache, text


def _temporary(program: Any) -> float:
    return program.memory_analysis().temp_size_in_bytes / (1 << 20)


def _nbytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Counts of questions: all, those with the same answer, and the right answers of each model."""

    asked: int
    same: int
    right: int
    right_int8: int


def answers(checkpoint: str, manifest: Path) -> Agreement:
    """Asks both models every question of a manifest (`data.held_out`)."""
    from xcomp_jax.pretrained import from_pretrained
    from xcomp_jax.text.prompts import VIDEO_MARK

    by_video: dict[str, list[tuple[str, str]]] = {}
    for entry in json.loads(manifest.read_text(encoding="utf-8")):
        turns = [turn["value"] for turn in entry["conversations"]]
        by_video.setdefault(entry["video"], []).extend(zip(turns[::2], turns[1::2], strict=True))
    sessions = [from_pretrained(checkpoint, quantize=kind) for kind in (None, "int8")]
    counts = np.zeros(4, int)
    for name, pairs in by_video.items():
        questions = [question.replace(VIDEO_MARK, "").strip() for question, _ in pairs]
        full, small = (
            [
                a.text
                for a in session.ask_all(session.encode_video(manifest.parent / name), questions)
            ]
            for session in sessions
        )
        for first, second, (_, right) in zip(full, small, pairs, strict=True):
            counts += (1, first == second, first == right, second == right)
    return Agreement(*counts.tolist())


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one table."""
    parser = argparse.ArgumentParser(
        prog="python -m xcomp_jax.launch.studies.quantization",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    commands.add_parser("errors")
    memory_options = commands.add_parser("memory")
    memory_options.add_argument("machine", metavar="MACHINE", help="such as v5e")
    memory_options.add_argument("--frames", type=int, default=1024, metavar="N")
    answer_options = commands.add_parser("answers")
    answer_options.add_argument("checkpoint", metavar="DIR")
    answer_options.add_argument("manifest", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.study == "errors":
        print(table(list(errors(XCOMP_2B.llm))))
    elif options.study == "memory":
        from xcomp_jax.launch.preflight.environment import ENVIRONMENT

        os.environ.update(ENVIRONMENT)  # before JAX looks for devices
        print(table(list(memory(options.machine, XCOMP_2B, options.frames))))
    else:
        counts = answers(options.checkpoint, options.manifest)
        print(
            f"{counts.same} of {counts.asked} answers are equal "
            f"({counts.same / counts.asked:.1%}); right: {counts.right} without, "
            f"{counts.right_int8} with int8"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
