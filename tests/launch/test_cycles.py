"""Test the estimated cycles of TPU programs: reading, grouping, and the stored shares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick import environment_of_users
from xcomp_jax.launch.bench.cycles import stored
from xcomp_jax.launch.bench.cycles.estimate import Estimate, counted
from xcomp_jax.launch.bench.cycles.groups import group_of
from xcomp_jax.launch.bench.cycles.hlo import operations
from xcomp_jax.launch.bench.cycles.names import MACHINES
from xcomp_jax.launch.bench.cycles.program import REPEATS, Program
from xcomp_jax.launch.preflight.machines import MACHINES as DESCRIBED
from xcomp_jax.launch.preflight.machines import missing

REPO = Path(__file__).parents[2]

COMPILED = """HloModule jit_run, is_scheduled=true

%fused_product (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  ROOT %convolution.1 = bf16[8,8]{1,0} convolution(%p, %p), metadata={op_name="a/dot_general"}
}

%fused_gelu (p: bf16[8,8]) -> bf16[8,8] {
  %p.1 = bf16[8,8]{1,0} parameter(0)
  ROOT %erf.1 = bf16[8,8]{1,0} multiply(%p.1, %p.1), metadata={op_name="mlp/erf"}
}

%body (state: (s32[], bf16[8,8])) -> (s32[], bf16[8,8]) {
  %state = (s32[]{:T(128)}, bf16[8,8]{1,0}) parameter(0)
  %fusion.1 = bf16[8,8]{1,0} fusion(%state), calls=%fused_product, CYCLES(100)
  %kernel = (bf16[8]{0}, bf16[8]{0}) custom-call(%fusion.1), frontend_attributes={kernel_metadata={
  }}, metadata={op_name="pallas_call"}
  ROOT %fusion.2 = bf16[8,8]{1,0} fusion(%fusion.1), calls=%fused_gelu, CYCLES(30)
}

%condition (state: (s32[], bf16[8,8])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(2)
  ROOT %lt = pred[]{:T(512)} compare(%constant.7, %constant.7), direction=LT
}

ENTRY %main (x: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8]{1,0} parameter(0)
  %copy.1 = bf16[8,8]{0,1} copy(%x), CYCLES(50)
  ROOT %while = (s32[], bf16[8,8]{1,0}) while(%copy.1), condition=%condition, body=%body
}
"""


def test_operations_of_a_loop_count_each_run() -> None:
    found = operations(_compiled())
    cycles = {operation.name: operation.cycles for operation in found}
    assert cycles["copy.1"] == 50
    assert cycles["fusion.1"] == 100 * REPEATS
    assert cycles["kernel"] is None
    groups = {operation.name: group_of(operation) for operation in found}
    assert groups["copy.1"] == "copies and transposes"
    assert groups["fusion.1"] == "matrix products"
    assert groups["fusion.2"] == "activations"
    assert groups["kernel"] == "kernels"
    layer = {operation.name: operation.cycles for operation in counted(found, looped=True)}
    assert "copy.1" not in layer
    assert (layer["fusion.1"], layer["fusion.2"]) == (100, 30)


def test_fallen_share_is_reported_beyond_tolerance(tmp_path: Path) -> None:
    path = tmp_path / "cycles.md"
    stored.store(path, "v5p", [_estimate(70)])
    stored.store(path, "v5e", [_estimate(80)])
    stored.store(path, "v5e", [_estimate(80)])  # replaces the first one
    shares = stored.stored_shares(path, "v5e")
    assert shares == {"part": 80.0}
    assert stored.stored_shares(path, "v5p") == {"part": 70.0}
    assert not stored.fallen([_estimate(75.5)], shares)
    (message,) = stored.fallen([_estimate(74.5)], shares)
    assert message == "part: 74.5 % of the peak, stored 80.0 %"


def test_stored_shares_of_missing_machine_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cycles.md"
    stored.store(path, "v5e", [_estimate(80)])
    with pytest.raises(ValueError, match="no table of v6e; add it with xcomp bench cycles v6e"):
        stored.stored_shares(path, "v6e")


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_shares_of_peak_do_not_fall(machine: str) -> None:
    if command := missing(DESCRIBED[machine]):
        pytest.skip(f"compiling for {machine} needs: {command}")
    arguments = ["bench", "cycles", machine, "--check", "docs/cycles.md"]
    process = subprocess.run(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments],
        cwd=REPO,
        env=environment_of_users(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def _compiled() -> str:
    lines = []
    for line in COMPILED.splitlines():
        before, mark, cycles = line.partition("CYCLES(")
        estimate = f'backend_config={{"estimated_cycles":"{cycles[:-1]}"}}' if mark else ""
        lines.append(before + estimate)
    return "\n".join(lines)


def _estimate(per_cent: float) -> Estimate:
    program = Program(
        name="part", lower=lambda mesh: None, product_flops=0, kernel_flops=0, per_1024_frames=1
    )
    return Estimate(
        program=program,
        cycles={"matrix products": 600, "norms": 400},
        floor=10 * per_cent,
        kernel_floor=0,
        compile_cpu_s=1,
        largest=(),
    )
