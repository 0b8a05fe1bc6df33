"""Times the encoder's block and token merging on this CPU, beside PyTorch if it is at hand.

Both run in turns, each run in a process of its own; CPU seconds count, which other work on the
machine changes less than wall time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = "xcomp_jax.launch.bench.encoder_cpu"
PEER = Path(__file__).with_name("torch_peer.py")


def run(options: argparse.Namespace) -> int:
    """Prints a Markdown table."""
    version = _run([options.peer, str(PEER), "version"])["version"] if options.peer else ""
    rows = []
    for name, sizes in _cases().items():
        ours: list[float] = []
        peer: list[float] = []
        for _ in range(options.rounds):
            ours.append(
                _run([sys.executable, "-m", "xcomp_jax.launch.bench.encoder_cpu", name])["cpu_s"]
            )
            if options.peer is not None:
                result = _run([options.peer, str(PEER), name, *map(str, sizes)])
                peer.append(result["cpu_s"])
        rows.append((name, ours, peer))
    print(f"| part | JAX, CPU s | PyTorch {version}, CPU s | JAX / PyTorch |")
    print("|---|---|---|---|")
    for name, ours, peer in rows:
        ratio = f"{min(ours) / min(peer):.2f}" if peer else ""
        print(f"| {name} | {_spread(ours)} | {_spread(peer)} | {ratio} |")
    return 0


def _spread(values: list[float]) -> str:
    return f"{min(values):.3g} (median {statistics.median(values):.3g})" if values else ""


def _cases() -> dict[str, tuple[int, ...]]:
    from xcomp_jax.variants import XCOMP_2B

    vision = XCOMP_2B.vision
    sizes = (vision.clip_frames * vision.patches_per_frame, vision.width, vision.num_heads)
    target = vision.clip_frames * XCOMP_2B.projector.tokens_per_frame
    return {"block": sizes, "merging": (*sizes, target)}


def _run(command: list[str]) -> dict[str, Any]:
    """Runs a command that prints JSON on its last line.

    Raises:
        ValueError: it fails; with its last line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"--peer {command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(
            f"{command[0]} failed: {last}; --peer needs a Python interpreter with PyTorch"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _spent(name: str) -> float:
    """Returns the CPU seconds of the second run of one part, in float32."""
    import jax
    import jax.numpy as jnp

    from xcomp_jax.models.layer_norm import moments
    from xcomp_jax.models.tome import merge_tokens
    from xcomp_jax.models.umt import Block
    from xcomp_jax.variants import XCOMP_2B

    tokens, width, heads, *target = _cases()[name]
    x = jax.random.normal(jax.random.key(0), (1, tokens, width))
    program: Callable[[], Any]
    if name == "block":
        block = Block(XCOMP_2B.vision, jnp.dtype(jnp.float32))
        example = x[:, :1]
        params = block.init(jax.random.key(1), example, moments(example))
        step = jax.jit(lambda params, x: block.apply(params, x, moments(x))[0])
        program = lambda: step(params, x)  # noqa: E731
    else:
        merge = jax.jit(merge_tokens, static_argnums=(1, 2))
        program = lambda: merge(x, target[0], heads)  # noqa: E731
    jax.block_until_ready(program())
    began = time.process_time()
    jax.block_until_ready(program())
    return time.process_time() - began


if __name__ == "__main__":
    print(json.dumps({"cpu_s": _spent(sys.argv[1])}))
