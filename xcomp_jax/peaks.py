"""Peak rates of devices, the ceilings of the roofline (vendors' figures, one device)."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Peak:
    """Dense bfloat16 TFLOP/s and main memory GB/s."""

    tflops: float
    gbytes: float

    def least_seconds(self, flops: float, nbytes: float) -> float:
        """Computes the roofline time, the longer of arithmetic and memory access."""
        return max(flops / (self.tflops * 1e12), nbytes / (self.gbytes * 1e9))


# Keyed by prefixes of JAX's device kind.
PEAKS = {
    "TPU v4": Peak(275, 1228),
    "TPU v5 lite": Peak(197, 819),
    "TPU v5e": Peak(197, 819),
    "TPU v5p": Peak(459, 2765),
    "TPU v5": Peak(459, 2765),
    "TPU v6 lite": Peak(918, 1640),
    "TPU v6e": Peak(918, 1640),
    "NVIDIA A100": Peak(312, 2039),
    "NVIDIA H100": Peak(989, 3350),
    "NVIDIA H200": Peak(989, 4800),
}


def peak_of(device_kind: str) -> Peak | None:
    """Returns the longest matching entry, None for a device that is not in the table (a CPU)."""
    names = [name for name in PEAKS if device_kind.startswith(name)]
    return PEAKS[max(names, key=len)] if names else None
