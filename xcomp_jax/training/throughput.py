"""How fast a step was: frames, tokens, share of the devices' peak, memory."""

from __future__ import annotations

import functools
import resource
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.config import ModelConfig, StageConfig
from xcomp_jax.flops import training_flops
from xcomp_jax.peaks import peak_of
from xcomp_jax.sharding import BATCH

GIB = 2**30


class WorkCounter:
    """Counts what a batch asks of the model, over all processes."""

    def __init__(self, model: ModelConfig, stage: StageConfig, mesh: Mesh) -> None:
        self._rows = NamedSharding(mesh, BATCH)
        self._sum = jax.jit(
            lambda rows: rows.sum(axis=0), out_shardings=NamedSharding(mesh, PartitionSpec())
        )

        @functools.lru_cache(maxsize=4096)
        def flops(frames: int, text: int, encoded: bool) -> int:
            return training_flops(model, stage, frames=frames, text=text, encoded=encoded).model

        self._flops = flops

    def __call__(self, batch: Mapping[str, np.ndarray]) -> np.ndarray | Array:
        """[2]: frames and model FLOPs of one step.

        Args:
            batch: this process's rows (fields as in `data.pipeline`). Padding counts nothing.
        """
        encoded = "frames" not in batch
        text = batch["prefix_len"] + batch["suffix_len"]
        rows = np.array(
            [
                (frames, self._flops(frames, words, encoded))
                for frames, words in zip(batch["num_frames"].tolist(), text.tolist(), strict=True)
            ],
            np.float64,
        )
        if jax.process_count() == 1:
            return rows.sum(axis=0)
        # Read with the metrics, a step later, so that nobody waits for this sum.
        return self._sum(
            jax.make_array_from_process_local_data(self._rows, rows.astype(np.float32))
        )


def rates(work: np.ndarray, tokens: float, seconds: float) -> dict[str, float]:
    """Per second, from what `WorkCounter` counted; `mfu` where the device's peak is known."""
    frames, flops = (float(value) for value in work)
    values = {"frames_per_second": frames / seconds, "tokens_per_second": tokens / seconds}
    peak = peak_of(jax.devices()[0].device_kind)
    if peak is not None:
        values["mfu"] = flops / seconds / (jax.device_count() * peak.tflops * 1e12)
    return values


def memory() -> dict[str, float]:
    """Peaks so far in GiB: of this process, and of its fullest device where devices tell."""
    # Linux counts ru_maxrss in KiB.
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    values = {"host_gib": round(host / GIB, 3)}
    stats: list[dict[str, Any]] = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stat["peak_bytes_in_use"] for stat in stats if "peak_bytes_in_use" in stat]
    if peaks:
        values["device_gib"] = round(max(peaks) / GIB, 3)
    return values
