"""Test the preflight on programs with known memory and traffic."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import types
from importlib import metadata
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
from xcomp_jax.launch.bench import device_arguments
from xcomp_jax.launch.preflight import check, command, pods
from xcomp_jax.launch.preflight.advice import advice
from xcomp_jax.launch.preflight.collectives import Collective, collectives
from xcomp_jax.launch.preflight.estimate import (
    Estimate,
    Memory,
    estimate,
    least_needed,
    required_bytes,
)
from xcomp_jax.launch.preflight.extrapolation import EXTRAPOLATED_SPARE, shortened
from xcomp_jax.launch.preflight.machines import MACHINES, libtpu_requirement
from xcomp_jax.launch.preflight.program import Program
from xcomp_jax.launch.preflight.rows import ROWS
from xcomp_jax.launch.preflight.table import table
from xcomp_jax.peaks import Peak
from xcomp_jax.sharding import AXES, make_mesh
from xcomp_jax.training.step import check_micro_batches
from xcomp_jax.variants import XCOMP_2B

STAGE = StageConfig(name="sct", num_steps=1, learning_rate=1e-5, accumulate_steps=4, remat=True)


@pytest.fixture(scope="module", name="results")
def results_fixture() -> dict[str, Any]:
    return printed_on_eight_devices("tests.launch.eight_devices", timeout=600)


def test_collectives_of_known_program_have_known_bytes(results: dict[str, Any]) -> None:
    """A ring of 8 sends 7/8 of a gathered array, and twice 7/8 of a reduced one."""
    assert results["known"] == {
        "all-gather": 5 * 4096 * 7 / 8,
        "all-reduce": 5 * 2 * 2048 * 7 / 8 + 2 * 512 * 7 / 8,
    }


def test_extrapolation_from_two_groups_meets_whole_step(results: dict[str, Any]) -> None:
    whole, quick, short = (results[name] for name in ("whole", "quick", "short"))
    assert quick["memory"]["arguments"] == whole["memory"]["arguments"]
    assert quick["memory"]["temporary"] == pytest.approx(whole["memory"]["temporary"], rel=0.25)
    assert sum(quick["sent_bytes"].values()) == pytest.approx(
        sum(whole["sent_bytes"].values()), rel=0.25
    )
    for field in ("flops", "recomputed", "compute_s", "memory_s"):
        assert quick[field] == whole[field] > 0
    # Control: without extrapolation the layers in between are missing.
    assert short["memory"]["arguments"] < 0.75 * whole["memory"]["arguments"]
    assert sum(short["sent_bytes"].values()) < 0.75 * sum(whole["sent_bytes"].values())


def test_shortened_model_keeps_first_and_last_group() -> None:
    model, stage = shortened(XCOMP_2B, STAGE)
    assert model.llm.num_hidden_layers == 3 + 4
    assert model.compression == stage.compression
    assert (stage.compression.drop_after_layers, stage.compression.strides) == ((3,), (16,))
    with pytest.raises(ConfigError, match="remat=True"):
        shortened(XCOMP_2B, dataclasses.replace(STAGE, remat=False))
    plain = dataclasses.replace(STAGE, compression=CompressionConfig(schedule="none"))
    with pytest.raises(ConfigError, match="has only 1"):
        shortened(XCOMP_2B, plain)


def estimate_of(needed: int) -> Estimate:
    """Returns an estimate on a device of 10 GiB."""
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


def test_required_bytes_reads_compiler_refusal() -> None:
    message = "the total memory required for HLO temporaries ({}) exceeds available HBM (16.00M)."
    for figure, nbytes in (("9.06G", 9.06 * 2**30), ("512.50M", 512.5 * 2**20)):
        assert required_bytes(message.format(figure)) == int(nbytes)
    used = "Ran out of memory in memory space hbm. Used 31.93M of 16.00M hbm. Exceeded"
    assert required_bytes(used) == int(31.93 * 2**20)
    assert required_bytes("RESOURCE_EXHAUSTED: another reason") is None


def test_advice_depends_on_verdict_and_stage() -> None:
    mesh = {"data": 1, "fsdp": 8, "tensor": 1, "context": 1}
    fits, tight = estimate_of(9 * 2**30), estimate_of(int(9.9 * 2**30))
    assert fits.fits
    assert advice(fits, STAGE, mesh) == []
    assert not tight.fits
    assert tight.floor_s == 2.0
    micro = dataclasses.replace(STAGE, accumulate_steps=2, remat=False)
    lines = advice(tight, micro, mesh)
    assert lines[0].startswith("remat=True")
    assert "accumulate_steps=4 instead of 2: 1 instead of 2 example(s)" in lines[1]
    # With one example per device, two devices must share a video.
    assert "context=2, fsdp=4 with accumulate_steps=8" in advice(tight, STAGE, mesh)[0]
    # An extrapolated estimate needs more spare memory.
    extrapolated = dataclasses.replace(fits, spare=EXTRAPOLATED_SPARE)
    assert not extrapolated.fits
    assert advice(extrapolated, STAGE, mesh)[0].startswith("compile the whole step")


TPU_POD = pods.Pod(
    "v5e:1x1",
    [types.SimpleNamespace(platform="tpu")],
    2**34,
    200,
    Peak(197, 819),
)


def refused_program(message: str) -> Program:
    """Returns a program that the compiler refuses with `message`."""

    def refuse(**_: object) -> None:
        raise jax.errors.JaxRuntimeError(message)

    lowered = types.SimpleNamespace(compile=refuse)
    return Program(name="step", lower=lambda: lowered, flops=1.0)


def test_bad_topologies_and_meshes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must read MACHINE:SIZES"):
        pods.describe("v5p")
    monkeypatch.setattr("xcomp_jax.launch.preflight.machines.missing", lambda _: "pip install it")
    with pytest.raises(ConfigError, match=r"compiling for v5p needs: pip install it"):
        pods.describe("v5p:4x4x4")
    assert check.parse_mesh("data=2, fsdp=-1") == MeshConfig(data=2, fsdp=-1)
    with pytest.raises(ConfigError, match=r"unknown field.*fdsp"):
        check.parse_mesh("fdsp=8")


@pytest.mark.parametrize(
    ("name", "possible"),
    [
        ("v5e:4x4x4", "v5e has 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16"),
        ("v5e:16", "v5e has 1x1"),
        ("v6e:32x32", "v6e has 1x1"),
        ("v5p:4x4", "such as 4x4x4 or 4x4x8"),
        ("v5p:8x4x4", "A <= B <= C"),
        ("v5p:16x16x28", "up to 16x16x24"),
        ("h100:16", "at most 8 devices per host"),
        ("h200:0", "at most 8 devices per host"),
        ("h100:1x2x3", "DEVICES or HOSTSxDEVICES"),
    ],
)
def test_describe_impossible_topology_lists_possible_ones(name: str, possible: str) -> None:
    with pytest.raises(ConfigError, match=f"--topology {name} does not exist; .*{possible}"):
        pods.describe(name)


@pytest.mark.parametrize("name", ["v5e:1x1", "v6e:16x16", "v5p:2x2x1", "v5p:8x8x12", "h100:4x8"])
def test_describe_possible_topology_reaches_compiler(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xcomp_jax.launch.preflight.machines.missing", lambda _: "pip install it")
    with pytest.raises(ConfigError, match="pip install it"):
        pods.describe(name)


def test_libtpu_requirement_is_that_of_installed_jax() -> None:
    """The extra `jax[tpu]` pins the version; a JAX without the extra leaves it open."""
    assert libtpu_requirement() in {
        requirement.partition(";")[0].strip() for requirement in metadata.requires("jax") or ()
    }
    assert libtpu_requirement().startswith("libtpu==")


@pytest.mark.parametrize(
    ("message", "least"),
    [
        ("RESOURCE_EXHAUSTED: Used 31.93M of 16.00M hbm. Exceeded", int(31.93 * 2**20)),
        ("INTERNAL: a scoped allocation of 40.00K exceeds its limit", None),
    ],
)
def test_least_needed_other_refusal_is_unknown(message: str, least: int | None) -> None:
    """Compiling a very small program for 16 MiB fails for other reasons than the plan's size."""
    mesh = make_mesh(MeshConfig(fsdp=1), jax.devices("cpu")[:1])
    assert least_needed(refused_program(message), TPU_POD, mesh) == least


def test_estimate_other_refusal_is_one_sentence() -> None:
    mesh = make_mesh(MeshConfig(fsdp=1), jax.devices("cpu")[:1])
    result = estimate(refused_program("RESOURCE_EXHAUSTED: out of memory"), TPU_POD, mesh)
    assert not result.fits
    with pytest.raises(ConfigError, match=r"refuses the step on v5e:1x1.*: INTERNAL: shape$"):
        estimate(refused_program("INTERNAL: shape\nstack"), TPU_POD, mesh)


def test_table_rows_have_meshes_that_divide_their_batches() -> None:
    for row in ROWS.values():
        config = load_experiment(Path(row.config), ())
        if row.mesh is not None:
            config = dataclasses.replace(config, mesh=check.parse_mesh(row.mesh))
        devices = math.prod(int(n) for n in row.topology.partition(":")[2].split("x"))
        adapted = on_devices(config, devices)
        mesh = jax.sharding.AbstractMesh(dataclasses.astuple(adapted.mesh), AXES)
        check_micro_batches(adapted.stages[0], mesh)


def test_table_marks_rows_that_do_not_fit() -> None:
    figures = {
        "h100": {
            "config": "xcomp_2b",
            "topology": "h100:8",
            "frames": 1024,
            "mesh": {"data": 1, "fsdp": 8},
            "micro batches": 4,
            "programs": [estimate_of(11 * 2**30).as_dict()],
            "spent": {"cpu_s": 66.0, "peak_gib": 2.5},
        }
    }
    line = table(figures).splitlines()[-1]
    for words in ("xcomp_2b, 1,024", "fsdp 8", "11.0 of 10.0", "no", "2.00 s, memory", "1.1 CPU"):
        assert words in line
    figures["h100"]["programs"][0]["least_bytes"] = 9 * 2**30
    assert "11.0, at least 9.0, of 10.0" in table(figures)


def test_command_without_topology_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--config", "xcomp_2b"]) == 2
    assert "--topology is missing" in capsys.readouterr().err


def test_table_command_compiles_missing_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {
        "config": "xcomp_2b",
        "topology": "h100:8",
        "frames": 1024,
        "mesh": {"fsdp": 8},
        "micro batches": 4,
        "programs": [estimate_of(2**30).as_dict()],
        "spent": {"cpu_s": 66.0, "peak_gib": 2.5},
    }
    (tmp_path / "h100_whole.json").write_text(json.dumps(figures))
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: commands.append(words))
    # The row that is compiled leaves no file here, so the exit code reports it as missing.
    assert command.main(["table", "--rows", "h100", "v5e", "--stages-only", "--out", str(tmp_path)])
    assert [words[3:7] for words in commands] == [["--config", "xcomp_2b", "--topology", "v5e:4x4"]]
    assert "--quick" in commands[0]
    assert capsys.readouterr().out.count("xcomp_2b, 1,024") == 1


# Loops of TPU compilers carry no number of iterations; this counter advances in steps of two.
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


def test_iterations_are_derived_from_loop_counter() -> None:
    first, looped = collectives(TPU_LOOP, 16)
    assert (first.nbytes, first.loops, first.source) == (3 / 4 * 128, (), "XComp.prefill/layer")
    assert (looped.kind, looped.nbytes, looped.loops) == ("collective-permute", 4 * 128, (4,))
    unknown = TPU_LOOP.replace("direction=LT", "direction=NE")
    with pytest.warns(UserWarning, match="counted once"):
        assert collectives(unknown, 16)[1].nbytes == 128


def test_bench_fit_offers_all_described_machines() -> None:
    """The parser names them itself, because it must not import JAX."""
    assert set(device_arguments.MACHINES) == set(MACHINES)
