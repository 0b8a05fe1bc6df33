"""Measures a training step: frames and tokens per second, MFU, peak memory."""

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
    """Counts the frames and model FLOPs of a batch, over all processes."""

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
        """Returns the frames and model FLOPs of one step, [2]; padding does not count.

        Args:
            batch: this process's rows, with the fields of `data.pipeline`.
        """
        encoded = "frames" not in batch
        text = batch["prefix_len"] + batch["suffix_len"]
        rows = np.array(
            [
                (frames, self._flops(frames, tokens, encoded))
                for frames, tokens in zip(batch["num_frames"].tolist(), text.tolist(), strict=True)
            ],
            np.float64,
        )
        if jax.process_count() == 1:
            return rows.sum(axis=0)
        # The sum stays on the devices and is read one step later, with the metrics.
        return self._sum(
            jax.make_array_from_process_local_data(self._rows, rows.astype(np.float32))
        )


def rates(work: np.ndarray, tokens: float, seconds: float) -> dict[str, float]:
    """Converts the counts of `WorkCounter` to rates; adds `mfu` for devices of known peak FLOPs."""
    frames, flops = (float(value) for value in work)
    values = {"frames_per_second": frames / seconds, "tokens_per_second": tokens / seconds}
    peak = peak_of(jax.devices()[0].device_kind)
    if peak is not None:
        values["mfu"] = flops / seconds / (jax.device_count() * peak.tflops * 1e12)
    return values


def peak_memory() -> dict[str, float]:
    """Returns the peaks in GiB of this process and, where reported, of its fullest device."""
    # Linux counts ru_maxrss in KiB.
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    values = {"host_gib": round(host / GIB, 3)}
    stats: list[dict[str, Any]] = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stat["peak_bytes_in_use"] for stat in stats if "peak_bytes_in_use" in stat]
    if peaks:
        values["device_gib"] = round(max(peaks) / GIB, 3)
    return values
