"""Time and memory of a round trip: original -> ours -> original -> ours -> original.

    python -m convert.bench_roundtrip --folder /large/disk
    python -m convert.bench_roundtrip --folder /large/disk --variant VideoChat-Flash-Qwen2-7B_res448

A random checkpoint of full size is made in a temporary folder below --folder (four times the size
of the weights is needed), every step runs in a process of its own, and all tensors are compared bit
by bit at the end. Exit code 1 when a step takes more anonymous memory than the arrays and 0.5 GB.
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
from tqdm import tqdm

from xcomp_jax.checkpoint import load_params
from xcomp_jax.convert.dtypes import FLOATS
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint
from xcomp_jax.convert.hf_config import to_hf_config
from xcomp_jax.convert.plan import equal_bits
from xcomp_jax.convert.safetensors_write import Declared, SafetensorsWriter
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.convert.torch_folder import CONFIG, SINGLE, read_weights
from xcomp_jax.convert.variants import VARIANTS, Variant

ALLOWANCE_BYTES = 500_000_000
_SAMPLE_SECONDS = 0.005


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One step; memory is what the process had at its worst, interpreter and libraries included."""

    step: str
    seconds: float
    peak_anonymous_bytes: int
    array_bytes: int

    @property
    def within(self) -> bool:
        return self.peak_anonymous_bytes <= self.array_bytes + ALLOWANCE_BYTES

    def __str__(self) -> str:
        return (
            f"{self.step:<13} {self.seconds:7.1f} s   "
            f"peak anonymous {self.peak_anonymous_bytes / 1e9:6.2f} GB   "
            f"arrays {self.array_bytes / 1e9:6.2f} GB   "
            f"{'within' if self.within else 'MORE THAN'} arrays + {ALLOWANCE_BYTES / 1e9:.1f} GB"
        )


def write_random(folder: Path, variant: Variant, dtype: str, *, seed: int = 0) -> int:
    """Writes a checkpoint of random finite numbers; returns the bytes of its tensors."""
    folder.mkdir(parents=True)
    declared = [Declared(name, dtype, shape) for name, shape in variant.tensors().items()]
    rng = np.random.default_rng(seed)
    with SafetensorsWriter(folder / SINGLE, declared) as writer:
        for tensor in tqdm(declared, desc="making", unit="tensor"):
            raw = np.frombuffer(bytearray(rng.bytes(tensor.nbytes)), FLOATS[dtype])
            bits = raw.view(np.dtype(f"u{raw.dtype.itemsize}"))
            # Without the top bit of the exponent no pattern is infinite or NaN.
            bits &= np.iinfo(bits.dtype).max ^ (1 << (8 * raw.dtype.itemsize - 2))
            writer.write(tensor.name, raw.reshape(tensor.shape))
    config = to_hf_config(variant.model, stored=dtype)
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return sum(tensor.nbytes for tensor in declared)


def run(folder: Path, variant: Variant, dtype: str) -> list[Measurement]:
    """A round trip in `folder`, and loading both kinds into host memory.

    Raises:
        RuntimeError: a step failed, or the tensors at the end are not those at the start.
    """
    array_bytes = write_random(folder / "source", variant, dtype)
    steps: list[tuple[str, Callable[[Path, Path], str], str, str]] = [
        ("from_torch", _from_torch, "source", "ours"),
        ("to_torch", convert_to_torch, "ours", "theirs"),
        ("from_torch", _from_torch, "theirs", "again"),
        ("to_torch", convert_to_torch, "again", "theirs again"),
        ("load original", _load_original, "source", ""),
        ("load ours", _load_ours, "ours", ""),
    ]
    measured = []
    for name, function, source, out in steps:
        measured.append(_measure(name, function, folder / source, folder / out, array_bytes))
        print(measured[-1], flush=True)
    check_equal(folder / "source", folder / "theirs again")
    print("all tensors equal, bit by bit")
    return measured


def check_equal(a: Path, b: Path) -> None:
    """Raises RuntimeError unless two folders hold the same tensors, bit by bit."""
    ours, theirs = read_weights(a), read_weights(b)
    different = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        x, y = ours[name].values, theirs[name].values
        if x is None or y is None or not equal_bits(x, y):
            different.append(name)
    if different:
        raise RuntimeError(f"not the same after the round trip: {different}")


def _from_torch(source: Path, out: Path) -> str:
    return convert_from_torch(str(source), out)


def _load_original(source: Path, _: Path) -> str:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return f"{len(jax.tree.leaves(load_torch_checkpoint(source, shardings=device)[1]))} arrays"


def _load_ours(source: Path, _: Path) -> str:
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
    """Memory of this process that no file stands behind (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon line")


def main() -> int:
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(
        prog="python -m convert.bench_roundtrip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where there is room")
    parser.add_argument("--variant", choices=names, default=names[0])
    parser.add_argument("--dtype", choices=sorted(FLOATS), default="bfloat16")
    options = parser.parse_args()
    variant = next(variant for variant in VARIANTS if variant.name == options.variant)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        measured = run(Path(place), variant, options.dtype)
    return 0 if all(step.within for step in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
