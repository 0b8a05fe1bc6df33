"""Case kind `tome`: token merging alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tests.parity.cases import assert_parity
from xcomp_jax.models.tome import merge_steps, merge_tokens

ATOL = 1e-5

merged_tokens = jax.jit(merge_tokens, static_argnums=(1, 2))


@pytest.mark.golden("tome")
def test_merge(case) -> None:
    recorded = {entry["name"]: entry for entry in case.meta["cases"]}
    inputs = case.io.matching(r".+__x")
    assert {name.removesuffix("__x") for name in inputs} == set(recorded)
    for name, entry in recorded.items():
        x = case.io[f"{name}__x"]
        merged, size = merged_tokens(x, entry["target"], entry["heads"])
        assert list(merge_steps(x.shape[1], entry["target"])) == entry["r_merge_list"], name
        np.testing.assert_array_equal(size, case.io[f"{name}__size"])
        # Control: sources and destinations exchanged by shifting every token one place.
        shifted, _ = merged_tokens(np.roll(x, 1, axis=1), entry["target"], entry["heads"])
        assert_parity(merged, case.io[f"{name}__merged"], atol=ATOL, control=shifted)
