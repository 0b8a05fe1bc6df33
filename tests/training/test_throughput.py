"""Tests throughput metrics on a device of known peak FLOPs."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from tests.training.tiny_experiment import EXPERIMENT, SCT
from xcomp_jax.config import CompressionConfig
from xcomp_jax.flops import training_flops
from xcomp_jax.peaks import PEAKS, Peak
from xcomp_jax.sharding import make_mesh
from xcomp_jax.training import throughput


def test_rates_known_peak_give_mfu(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = jax.devices()[0].device_kind
    monkeypatch.setitem(PEAKS, kind, Peak(tflops=2.0, gbytes=1.0))
    model = EXPERIMENT.stage_model(SCT)
    mesh = make_mesh(EXPERIMENT.mesh, jax.devices()[:1])
    count = throughput.WorkCounter(model, SCT, mesh)
    batch = {
        "frames": np.zeros((2, 0)),
        "num_frames": np.array([8, 4]),
        "prefix_len": np.array([5, 5]),
        "suffix_len": np.array([7, 9]),
    }
    frames, flops = work = np.asarray(count(batch))
    assert frames == 12
    each = [training_flops(model, SCT, frames=n, text=m).model for n, m in ((8, 12), (4, 14))]
    assert flops == sum(each)
    rates = throughput.rates(work, tokens=100.0, seconds=0.5)
    assert rates["mfu"] == pytest.approx(flops / 0.5 / 2e12 / jax.device_count())
    assert rates["frames_per_second"] == 24
    # Control: without compression the same batch has more FLOPs.
    plain = dataclasses.replace(SCT, compression=CompressionConfig(schedule="none"))
    count = throughput.WorkCounter(EXPERIMENT.stage_model(plain), plain, mesh)
    assert np.asarray(count(batch))[1] > 1.02 * flops
