"""Measure encoder, prefill, kernels and the way from a file to an answer on one accelerator.

A part that fails is a row with its error, and no part starts after the deadline. Compiling takes
most of the time, so the most important parts come first, and each kernel is measured at the shapes
that take most of it; decoding, a training step, prefill without compression and the agreement of
the kernels with their definition follow if there is time. On a GPU the times of encoder and prefill
are also split by kind of kernel.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.config import MeshConfig, ModelConfig, StageConfig
from xcomp_jax.engine import programs
from xcomp_jax.engine.generate import generate
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.flops import encoder_flops
from xcomp_jax.launch.bench import agreement, file_to_answer, kernel_times, kernels, model
from xcomp_jax.launch.bench.deadline import Deadline
from xcomp_jax.launch.bench.shapes import ATTENTION, CLIPS, TINY_ATTENTION, TINY_CLIPS
from xcomp_jax.launch.bench.timing import seconds
from xcomp_jax.models.xcomp import XComp
from xcomp_jax.ops.target import current_target
from xcomp_jax.peaks import peak_of
from xcomp_jax.sharding import make_mesh

Row = dict[str, Any]

FRAMES = (1024, 2048, 4096)
# Seconds on an H200 with LP-Comp: published in the paper, and the target of this project.
PUBLISHED = {1024: 0.12, 2048: 0.25, 4096: 0.66}
TARGET = {1024: 0.06, 2048: 0.13, 4096: 0.40}
MEASURED_ATTENTION = ("vit_448_clip8", "qwen2_1p5b_16k")
MEASURED_CLIPS = ("scores_16_tokens", "scores_1_token")
NEW_TOKENS = 64
YARDSTICK = 8192
TRAINED_FRAMES = 256


def measure(*, tiny: bool, deadline: Deadline) -> Iterator[tuple[str, list[Row]]]:
    """Yields title and rows of every part as soon as it is measured."""
    attentions = TINY_ATTENTION if tiny else _named(ATTENTION, MEASURED_ATTENTION)
    scored = TINY_CLIPS if tiny else _named(CLIPS, MEASURED_CLIPS)
    traced: dict[str, list[Row]] = {"encoder": [], "prefill": []}
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "Yardstick": lambda: _yardstick(tiny),
        "Video encoder": lambda: _encoder(tiny, traced["encoder"]),
        "Prefill of the language model, with LP-Comp": (
            lambda: _prefills(tiny, True, deadline, traced["prefill"])
        ),
        "Attention": lambda: kernels.attention_rows(attentions, deadline),
        "Clip scores": lambda: kernels.clip_score_rows(scored, deadline),
        "From a file to an answer": lambda: file_to_answer.measure(tiny=tiny),
        "Decoding": lambda: _decoding(tiny),
        "Training step": lambda: _training(tiny),
        "Prefill of the language model, without compression": (
            lambda: _prefills(tiny, False, deadline, [])
        ),
        "Agreement with the definition": lambda: agreement.measure(tiny=tiny, deadline=deadline),
    }
    for title, part in parts.items():
        yield title, list(_guarded(part, deadline))
    for name, rows in traced.items():
        if rows:
            yield f"Kernels of the {name}", rows


def _named(shapes: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [shape for shape in shapes if shape.name in names]


def _guarded(part: Callable[[], Iterator[Row]], deadline: Deadline) -> Iterator[Row]:
    if deadline.passed:
        yield {"note": "not measured: out of time"}
        return
    try:
        yield from part()
    except Exception as error:  # the other parts stay useful
        yield {"note": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
    finally:
        jax.clear_caches()  # compiled programs hold device memory


def _yardstick(tiny: bool) -> Iterator[Row]:
    """Measures what this device makes of its peak: one large product of random matrices."""
    size = 256 if tiny else YARDSTICK
    keys = jax.random.split(jax.random.key(0), 2)
    pair = [jax.random.normal(key, (size, size), jnp.bfloat16) for key in keys]
    call_seconds = seconds(jax.jit(jnp.matmul), *pair)
    yield {"product": f"{size} x {size} bfloat16", "tflops": 2 * size**3 / call_seconds / 1e12}


def _traced(run: Callable[[], Any]) -> list[Row]:
    on_gpu = current_target().platform == "gpu"
    return list(kernel_times.profile(run)) if on_gpu else []


def _prefills(tiny: bool, compressed: bool, deadline: Deadline, traced: list[Row]) -> Iterator[Row]:
    config = model.model_config(tiny=tiny, compressed=compressed)
    params = model.random_params(config, "llm")
    peak = peak_of(jax.devices()[0].device_kind)
    for frames in (8, 16) if tiny else FRAMES:
        row: Row = {"frames": frames, "text": model.PREFIX + model.SUFFIX}
        if deadline.passed:
            yield {**row, "note": "not measured: out of time"}
            continue
        began = time.monotonic()
        inputs = model.prefill_inputs(config, frames)
        program = programs.prefill.lower(XComp(config), params, *inputs).compile()
        row["compile_s"] = time.monotonic() - began
        row["seconds"] = seconds(program, params, *inputs)
        flops = model.prefill_flops(config, frames)
        row["tflops"] = flops / row["seconds"] / 1e12
        row["floor_s"] = flops / (peak.tflops * 1e12) if peak else ""
        if compressed and not tiny:
            row |= {"target_s": TARGET[frames], "paper_h200_s": PUBLISHED[frames]}
        if not traced:
            traced += _traced(functools.partial(program, params, *inputs))
        yield row


def _encoder(tiny: bool, traced: list[Row]) -> Iterator[Row]:
    config = model.model_config(tiny=tiny)
    params = model.random_params(config, "vision", "projector")
    side, clip = config.vision.image_size, config.vision.clip_frames
    encode = functools.partial(programs.encode_clips, XComp(config))
    peak = peak_of(jax.devices()[0].device_kind)
    for clips in (1,) if tiny else (8, 32):
        shape = (clips, clip, side, side, 3)
        pixels = jax.random.randint(jax.random.key(0), shape, 0, 256, jnp.uint8)
        call_seconds = seconds(encode, params, pixels)
        flops = clips * encoder_flops(config)
        row: Row = {
            "clips": clips,
            "frames_per_s": clips * clip / call_seconds,
            "ms": 1e3 * call_seconds,
            "tflops": flops / call_seconds / 1e12,
        }
        if peak is not None:
            row["of_roofline"] = peak.least_seconds(flops, 0) / call_seconds
        if not traced:
            traced += _traced(functools.partial(encode, params, pixels))
        yield row


def _decoding(tiny: bool) -> Iterator[Row]:
    config = model.model_config(tiny=tiny)
    params = model.random_params(config, "llm")
    frames = 8 if tiny else FRAMES[0]
    network = XComp(config)
    inputs = model.prefill_inputs(config, frames)
    logits, cache = programs.prefill(network, params, *inputs)
    generation = GenerationConfig(max_new_tokens=NEW_TOKENS)

    def decode(params: Any, logits: Array, cache: Any) -> Array:
        return generate(network, params, logits, cache, generation).ids

    call_seconds = seconds(decode, params, logits, cache)
    yield {
        "frames": frames,
        "tokens_per_s": NEW_TOKENS / call_seconds,
        "ms_per_token": 1e3 * call_seconds / NEW_TOKENS,
    }


def _training(tiny: bool) -> Iterator[Row]:
    # Imported here, so that a missing package of training does not stop the other parts.
    from xcomp_jax.training.step import init_state, make_train_step

    config = model.model_config(tiny=tiny)
    frames = 8 if tiny else TRAINED_FRAMES
    stage = StageConfig(
        name="bench",
        num_steps=10,
        learning_rate=1e-5,
        batch_size=1,
        compression=config.compression,
        remat=True,
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        params = model.random_params(
            config, "vision", "projector", "llm", dtype=jnp.dtype(jnp.float32)
        )
        state = jax.jit(functools.partial(init_state, stage), donate_argnums=0)(params)
        batch = _batch(config, frames)
        step = make_train_step(config, stage, mesh)
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        began = time.perf_counter()
        rounds = 3
        for _ in range(rounds):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    yield {
        "frames": frames,
        "seconds": (time.perf_counter() - began) / rounds,
        "loss_is_finite": bool(jnp.isfinite(metrics["loss"])),
    }


def _batch(config: ModelConfig, frames: int) -> dict[str, Array]:
    side = config.vision.image_size
    rng = np.random.default_rng(0)
    ids = {
        name: rng.integers(0, config.llm.vocab_size, (1, n)).astype(np.int32)
        for name, n in (("prefix", model.PREFIX), ("suffix", model.SUFFIX))
    }
    batch = {
        "frames": rng.integers(0, 256, (1, frames, side, side, 3), np.uint8),
        "num_frames": np.full(1, frames, np.int32),
    }
    for name, part in ids.items():
        batch[f"{name}_ids"] = batch[f"{name}_labels"] = part
        batch[f"{name}_len"] = np.full(1, part.shape[1], np.int32)
    return {name: jnp.asarray(array) for name, array in batch.items()}
