"""Test the sums of kernel times by kind."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from xcomp_jax.launch.bench.kernel_times import kind_of, profile


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7", "attention"),
        ("nvjet_sm90_tst_128x160_64x5_2x1_v_bz_NNT", "products"),
        ("gemm_fusion_dot_133", "products"),
        ("memcpy128", "copies and transposes"),
        ("loop_transpose_fusion", "copies and transposes"),
        ("sort_0_1", "sorts"),
        ("input_reduce_fusion_1", "reductions"),
        ("loop_multiply_fusion_8", "elementwise"),
    ],
)
def test_kernels_of_h200_have_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_trace_without_gpu_is_refused(tmp_path: Path) -> None:
    program = jax.jit(jnp.sin)
    with pytest.raises(ValueError, match="no kernel of a GPU; trace a run on a GPU"):
        list(profile(lambda: program(1.0), tmp_path))
