"""Measures time and memory of two conversion round trips, PyTorch -> XComp-JAX -> PyTorch.

    python -m launch.bench.convert_roundtrip --folder /large/disk
    python -m launch.bench.convert_roundtrip --folder /large/disk \\
        --variant VideoChat-Flash-Qwen2-7B_res448

Writes a random full-size checkpoint to a temporary folder in --folder, which needs five times the
size of the weights, runs every step in its own process, and compares all tensors bit by bit at the
end. Exit code 1 if a step uses more anonymous memory than the parameters plus 0.5 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from xcomp_jax.checkpoint import load_params
from xcomp_jax.convert.config_export import to_hf_config
from xcomp_jax.convert.folder import CONFIG, WEIGHTS, read_weights
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint
from xcomp_jax.convert.tensors import FLOATS, bit_view, equal_bits
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.convert.variants import VARIANTS, Variant
from xcomp_jax.convert.write import SafetensorsWriter, TensorSpec
from xcomp_jax.terminal.progress import ProgressBar

ALLOWANCE_BYTES = 500_000_000
_SAMPLE_SECONDS = 0.005


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Time and peak memory of the process of one step, with interpreter and libraries."""

    step: str
    seconds: float
    peak_anonymous_bytes: int
    array_bytes: int

    @property
    def within(self) -> bool:
        return self.peak_anonymous_bytes <= self.array_bytes + ALLOWANCE_BYTES

    def __str__(self) -> str:
        return (
            f"{self.step:<14} {self.seconds:7.1f} s   "
            f"peak anonymous {self.peak_anonymous_bytes / 1e9:6.2f} GB   "
            f"arrays {self.array_bytes / 1e9:6.2f} GB   "
            f"{'within' if self.within else 'MORE THAN'} arrays + {ALLOWANCE_BYTES / 1e9:.1f} GB"
        )


def write_random(folder: Path, variant: Variant, dtype: str, *, seed: int = 0) -> int:
    """Writes a checkpoint of random finite values; returns the bytes of its tensors."""
    folder.mkdir(parents=True)
    specs = [TensorSpec(name, dtype, shape) for name, shape in variant.tensors().items()]
    rng = np.random.default_rng(seed)
    with SafetensorsWriter(folder / WEIGHTS, specs) as writer:
        for spec in ProgressBar(specs, desc="writing", unit="tensor"):
            values = np.frombuffer(bytearray(rng.bytes(spec.nbytes)), FLOATS[dtype])
            bits = bit_view(values)
            # Without the top bit of the exponent, no pattern is infinite or NaN.
            bits &= np.iinfo(bits.dtype).max ^ (1 << (8 * values.dtype.itemsize - 2))
            writer.write(spec.name, values.reshape(spec.shape))
    config = to_hf_config(variant.model, stored=dtype)
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return sum(spec.nbytes for spec in specs)


def run(folder: Path, variant: Variant, dtype: str) -> list[Measurement]:
    """Runs two round trips in `folder` and loads both kinds of checkpoint into host memory.

    Raises:
        RuntimeError: a step failed, or the final tensors differ from the initial ones.
    """
    array_bytes = write_random(folder / "source", variant, dtype)
    steps: list[tuple[str, Callable[[Path, Path], str], str, str]] = [
        ("from-torch", _from_torch, "source", "jax"),
        ("to-torch", convert_to_torch, "jax", "torch"),
        ("from-torch", _from_torch, "torch", "jax-2"),
        ("to-torch", convert_to_torch, "jax-2", "torch-2"),
        ("load PyTorch", _load_torch, "source", ""),
        ("load XComp-JAX", _load_jax, "jax", ""),
    ]
    measurements = []
    for name, function, source, out in steps:
        measurements.append(_measure(name, function, folder / source, folder / out, array_bytes))
        print(measurements[-1], flush=True)
    check_equal(folder / "source", folder / "torch-2")
    print("all tensors equal, bit by bit")
    return measurements


def check_equal(a: Path, b: Path) -> None:
    """Raises RuntimeError unless two folders hold the same tensors, bit by bit."""
    tensors_a, tensors_b = read_weights(a), read_weights(b)
    different = sorted(tensors_a.keys() ^ tensors_b.keys())
    for name in tensors_a.keys() & tensors_b.keys():
        x, y = tensors_a[name].values, tensors_b[name].values
        if x is None or y is None or not equal_bits(x, y):
            different.append(name)
    if different:
        raise RuntimeError(f"changed by the round trip: {different}")


def _from_torch(source: Path, out: Path) -> str:
    return convert_from_torch(str(source), out)


def _load_torch(source: Path, _: Path) -> str:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return f"{len(jax.tree.leaves(load_torch_checkpoint(source, shardings=device)[1]))} arrays"


def _load_jax(source: Path, _: Path) -> str:
    return f"{len(jax.tree.leaves(load_params(source)[1]))} arrays"


def _measure(
    name: str, function: Callable[[Path, Path], str], source: Path, out: Path, array_bytes: int
) -> Measurement:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(function, source, out, send))
    process.start()
    send.close()
    try:
        seconds, peak = receive.recv()
    except EOFError:
        raise RuntimeError(f"{name} of {source} failed, see above") from None
    finally:
        process.join()
    return Measurement(name, seconds, peak, array_bytes)


def _child(function: Callable[[Path, Path], str], source: Path, out: Path, send: object) -> None:
    jax.config.update("jax_platforms", "cpu")
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_SECONDS):
            peak = max(peak, _anonymous_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    start = time.perf_counter()
    try:
        function(source, out)
        seconds = time.perf_counter() - start
    finally:
        done.set()
        thread.join()
    send.send((seconds, peak))  # type: ignore[attr-defined]


def _anonymous_bytes() -> int:
    """Returns the anonymous memory (not backed by a file) of this process; Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon line")


def main() -> int:
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(
        prog="python -m launch.bench.convert_roundtrip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder on a disk with free space"
    )
    parser.add_argument(
        "--variant", choices=names, default=names[0], help="published model (default: %(default)s)"
    )
    parser.add_argument(
        "--dtype",
        choices=sorted(FLOATS),
        default="bfloat16",
        help="dtype of the tensors (default: %(default)s)",
    )
    options = parser.parse_args()
    variant = next(variant for variant in VARIANTS if variant.name == options.variant)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measurements = run(Path(folder), variant, options.dtype)
    return 0 if all(step.within for step in measurements) else 1


if __name__ == "__main__":
    sys.exit(main())
