"""The preflight on programs whose answers are known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.quick import printed_on_eight_devices
from xcomp_jax.config import (
    CompressionConfig,
    ConfigError,
    MeshConfig,
    StageConfig,
    on_devices,
)
from xcomp_jax.experiment import load_experiment
from xcomp_jax.launch.preflight import __main__ as aot_compile
from xcomp_jax.launch.preflight import pods, stages
from xcomp_jax.launch.preflight.advice import advice
from xcomp_jax.launch.preflight.collectives import Collective, collectives
from xcomp_jax.launch.preflight.estimate import Estimate, Memory, asked_bytes
from xcomp_jax.launch.preflight.scaling import ROWS, table
from xcomp_jax.launch.preflight.stages import shortened
from xcomp_jax.sharding import AXES
from xcomp_jax.training.step import check_micro_batches
from xcomp_jax.variants import XCOMP_2B

CONFIGS = Path(__file__).parents[2] / "configs"
STAGE = StageConfig(name="sct", num_steps=1, learning_rate=1e-5, accumulate_steps=4, remat=True)


@pytest.fixture(scope="module", name="results")
def results_fixture() -> dict[str, Any]:
    return printed_on_eight_devices("tests.launch.eight_devices", timeout=600)


def test_bytes_of_known_collectives(results: dict[str, Any]) -> None:
    """A ring sends 7/8 of what is gathered and twice 7/8 of what is added up."""
    assert results["known"] == {
        "all-gather": 5 * 4096 * 7 / 8,
        "all-reduce": 5 * 2 * 2048 * 7 / 8 + 2 * 512 * 7 / 8,
    }


def test_two_stages_tell_about_all(results: dict[str, Any]) -> None:
    whole, quick, short = (results[name] for name in ("whole", "quick", "short"))
    assert quick["memory"]["arguments"] == whole["memory"]["arguments"]
    assert quick["memory"]["temporary"] == pytest.approx(whole["memory"]["temporary"], rel=0.25)
    assert sum(quick["sent_bytes"].values()) == pytest.approx(
        sum(whole["sent_bytes"].values()), rel=0.25
    )
    for field in ("flops", "recomputed", "compute_s", "memory_s"):
        assert quick[field] == whole[field] > 0
    # Control: without what is added, the layers left out are missed.
    assert short["memory"]["arguments"] < 0.75 * whole["memory"]["arguments"]
    assert sum(short["sent_bytes"].values()) < 0.75 * sum(whole["sent_bytes"].values())


def test_the_shortened_model_has_the_longest_and_the_shortest_layers() -> None:
    model, stage = shortened(XCOMP_2B, STAGE)
    assert model.llm.num_hidden_layers == 3 + 4
    assert model.compression == stage.compression
    assert (stage.compression.drop_after_layers, stage.compression.strides) == ((3,), (16,))
    with pytest.raises(ConfigError, match="remat=True"):
        shortened(XCOMP_2B, dataclasses.replace(STAGE, remat=False))
    plain = dataclasses.replace(STAGE, compression=CompressionConfig(schedule="none"))
    with pytest.raises(ConfigError, match="there are only 1"):
        shortened(XCOMP_2B, plain)


def an_estimate(needed: int) -> Estimate:
    """Of 10 GiB."""
    return Estimate(
        program="step",
        memory=Memory(arguments=2**30, temporary=needed - 2**30, needed=needed),
        refusal=None,
        capacity_bytes=10 * 2**30,
        flops=1e15,
        recomputed=1e14,
        sent=(Collective("all-gather", 1e9, (4,), "layer/mlp"),),
        unread=None,
        compute_s=1.0,
        memory_s=2.0,
        links_s=1.5,
        compile_s=60,
    )


def test_what_a_compiler_asks_for_when_it_refuses() -> None:
    said = "the total memory required for HLO temporaries ({}) exceeds available HBM (16.00M)."
    for figure, asked in (("9.06G", 9.06 * 2**30), ("512.50M", 512.5 * 2**20)):
        assert asked_bytes(said.format(figure)) == int(asked)
    assert asked_bytes("RESOURCE_EXHAUSTED: too many cooks") is None


def test_verdict_and_advice() -> None:
    mesh = {"data": 1, "fsdp": 8, "tensor": 1, "context": 1}
    fits, tight = an_estimate(9 * 2**30), an_estimate(int(9.9 * 2**30))
    assert fits.fits
    assert advice(fits, STAGE, mesh) == []
    assert not tight.fits
    assert tight.floor_s == 2.0
    micro = dataclasses.replace(STAGE, accumulate_steps=2, remat=False)
    lines = advice(tight, micro, mesh)
    assert lines[0].startswith("remat=True")
    assert "accumulate_steps=4 instead of 2: 1 instead of 2 example(s)" in lines[1]
    # One example on each device already: a video must be shared.
    assert "context=2, fsdp=4 with accumulate_steps=8" in advice(tight, STAGE, mesh)[0]
    # What only two stages tell needs more room, and is no last word.
    guessed = dataclasses.replace(fits, spare=stages.EXTRAPOLATED_SPARE)
    assert not guessed.fits
    assert advice(guessed, STAGE, mesh)[0].startswith("the whole step")


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must read MACHINE:SIZES"):
        pods.describe("v5p")
    monkeypatch.setattr("xcomp_jax.launch.preflight.machines.missing", lambda _: "pip install it")
    with pytest.raises(ConfigError, match=r"compiling for v5p needs: pip install it"):
        pods.describe("v5p:4x4x4")
    assert aot_compile._mesh_config("data=2, fsdp=-1") == MeshConfig(data=2, fsdp=-1)
    with pytest.raises(ConfigError, match=r"unknown field.*fdsp"):
        aot_compile._mesh_config("fdsp=8")


def test_every_row_of_the_table_is_a_split_that_can_be() -> None:
    for row in ROWS.values():
        config = load_experiment(CONFIGS / f"{row.config}.py", ())
        if row.mesh is not None:
            config = dataclasses.replace(config, mesh=aot_compile._mesh_config(row.mesh))
        devices = math.prod(int(n) for n in row.topology.partition(":")[2].split("x"))
        here = on_devices(config, devices)
        mesh = jax.sharding.AbstractMesh(dataclasses.astuple(here.mesh), AXES)
        check_micro_batches(here.stages[0], mesh)


def test_the_table_says_what_does_not_fit() -> None:
    found = {
        "h100": {
            "config": "xcomp_2b",
            "topology": "h100:8",
            "frames": 1024,
            "mesh": {"data": 1, "fsdp": 8},
            "micro batches": 4,
            "programs": [an_estimate(11 * 2**30).as_dict()],
            "spent": {"cpu_s": 66.0, "peak_gib": 2.5},
        }
    }
    line = table(found).splitlines()[-1]
    for words in ("xcomp_2b, 1,024", "fsdp 8", "11.0 of 10.0", "no", "2.00 s, memory", "1.1 CPU"):
        assert words in line
    found["h100"]["programs"][0]["least_bytes"] = 9 * 2**30
    assert "11.0, at least 9.0, of 10.0" in table(found)


# As compilers for TPUs write loops: the turns are not noted, and this counter goes in steps of two.
TPU_LOOP = """HloModule jit_step
%condition (at: (u32[], bf16[64])) -> pred[] {
  %limit = u32[]{:T(128)} constant(8)
  %at = (u32[]{:T(128)}, bf16[64]{0}) parameter(0)
  %counter = u32[]{:T(128)} get-tuple-element(%at), index=0
  ROOT %lt = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}

%body (at: (u32[], bf16[64])) -> (u32[], bf16[64]) {
  %two = u32[]{:T(128)} constant(2)
  %at = (u32[]{:T(128)}, bf16[64]{0}) parameter(0)
  %counter = u32[]{:T(128)} get-tuple-element(%at), index=0
  %x = bf16[64]{0} get-tuple-element(%at), index=1
  %start = (bf16[64]{0}, bf16[64]{0}, u32[], u32[]) collective-permute-start(%x), channel_id=1
  %y = bf16[64]{0} collective-permute-done(%start)
  %next = u32[]{:T(128)} add(%counter, %two)
  ROOT %result = (u32[]{:T(128)}, bf16[64]{0}) tuple(%next, %y)
}

ENTRY %main (x: bf16[64]) -> (u32[], bf16[64]) {
  %at = (u32[]{:T(128)}, bf16[64]{0}) parameter(0)
  %all = bf16[64]{0} all-gather(%at), replica_groups=mesh['a'=2,'b'=8] {'b':(2)4}, \
metadata={op_name="jit(step)/jvp(XComp.prefill)/layer/dot_general"}
  ROOT %while = (u32[]{:T(128)}, bf16[64]{0}) while(%at), condition=%condition, body=%body
}
"""


def test_turns_that_are_not_noted() -> None:
    first, looped = collectives(TPU_LOOP, 16)
    assert (first.nbytes, first.loops, first.source) == (3 / 4 * 128, (), "XComp.prefill/layer")
    assert (looped.kind, looped.nbytes, looped.loops) == ("collective-permute", 4 * 128, (4,))
    unknown = TPU_LOOP.replace("direction=LT", "direction=NE")
    with pytest.warns(UserWarning, match="counted once"):
        assert collectives(unknown, 16)[1].nbytes == 128
