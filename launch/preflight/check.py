"""Compile the programs of one run for one pod, and print an estimate of each."""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from importlib import metadata
from typing import Any

from jax.sharding import Mesh

from xcomp_jax.config import (
    ConfigError,
    ExperimentConfig,
    MeshConfig,
    ModelConfig,
    SelectionConfig,
    StageConfig,
    from_dict,
    on_devices,
)
from xcomp_jax.experiment import load_experiment
from xcomp_jax.launch.preflight import extrapolation, report, serving, training
from xcomp_jax.launch.preflight.advice import advice
from xcomp_jax.launch.preflight.estimate import estimate, least_needed
from xcomp_jax.launch.preflight.pods import Pod, describe
from xcomp_jax.sharding import make_mesh

SERVED_TEXT = 863
"""Text tokens of a question in the paper's timing."""


@dataclasses.dataclass(frozen=True)
class Target:
    """The pod, its mesh, and the model, stage and sizes to compile for it."""

    config: ExperimentConfig
    pod: Pod
    mesh: Mesh
    model: ModelConfig
    stage: StageConfig
    sizes: training.Sizes


def check(options: argparse.Namespace) -> dict[str, Any]:
    """Compiles and prints program after program; returns the figures for JSON.

    Raises:
        ConfigError: the options, the configuration and the pod do not fit together.
    """
    began = time.monotonic()
    train = options.mode == "train"
    if options.quick and not train:
        raise ConfigError("--quick compiles a training step; leave out --mode serve")
    target = _target(options)
    print(
        f"xcomp preflight: compiling for {options.topology}, which takes up to some minutes",
        file=sys.stderr,
        flush=True,
    )
    summary = {
        "config": target.config.name,
        "topology": options.topology,
        "device": target.pod.devices[0].device_kind,
        "mesh": dict(target.mesh.shape),
        "mode": options.mode,
        **({"micro batches": target.stage.accumulate_steps} if train else {}),
        "frames": target.sizes.frames,
        "text": target.sizes.prefix + target.sizes.suffix,
        "encoded": options.encoded,
        "compiler": _versions(),
    }
    print(", ".join(f"{key} {value}" for key, value in summary.items()), flush=True)
    programs = _training(target, quick=options.quick) if train else _serving(target)
    spent = {
        "wall_s": time.monotonic() - began,
        "cpu_s": time.process_time(),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print("this check took " + ", ".join(f"{name} {value:.1f}" for name, value in spent.items()))
    return {**summary, "programs": programs, "spent": spent}


def parse_mesh(text: str) -> MeshConfig:
    """Reads `data=1,fsdp=32,context=2`; axes that are left out have one device.

    Raises:
        ConfigError: an unknown axis, or a size that is not a number.
    """
    pairs = (item.partition("=") for item in text.split(","))
    sizes = {name.strip(): int(n) if n.lstrip("-").isdigit() else n for name, _, n in pairs}
    return from_dict(MeshConfig, {"fsdp": 1, **sizes}, "--mesh")


def _target(options: argparse.Namespace) -> Target:
    config, train = load_experiment(options.config, options.set), options.mode == "train"
    pod = describe(options.topology)
    if options.mesh:
        config = dataclasses.replace(config, mesh=parse_mesh(options.mesh))
    if train:  # serving has one video per device and no batch to split
        config = on_devices(config, len(pod.devices))
    stages = {stage.name: stage for stage in config.stages}
    stage = stages.get(options.stage, config.stages[-1])
    if options.stage is not None and options.stage not in stages:
        raise ConfigError(f"--stage {options.stage!r} not found; known: {', '.join(stages)}")
    text = options.text or (config.data.max_text_tokens if train else SERVED_TEXT)
    sizes = training.Sizes(
        frames=options.frames or config.sampling.max_frames,
        prefix=training.PREFIX_SLOTS,
        suffix=text - training.PREFIX_SLOTS,
        encoded=options.encoded,
    )
    mesh = make_mesh(config.mesh, pod.devices)
    return Target(config, pod, mesh, config.stage_model(stage), stage, sizes)


def _training(target: Target, *, quick: bool) -> list[dict[str, Any]]:
    model, stage, mesh, sizes = target.model, target.stage, target.mesh, target.sizes
    program = training.step_program(model, stage, mesh, sizes)
    least = least_needed(program, target.pod, mesh)
    if quick:
        short_program = training.step_program(*extrapolation.shortened(model, stage), mesh, sizes)
        step = extrapolation.extended(
            estimate(short_program, target.pod, mesh),
            program,
            model,
            stage,
            mesh,
            sizes,
            target.pod,
            least,
        )
    else:
        step = dataclasses.replace(estimate(program, target.pod, mesh), least_bytes=least)
    suggestions = advice(step, stage, dict(mesh.shape))
    print(report.text(step, suggestions), flush=True)
    return [{**step.as_dict(), "advice": suggestions}]


def _serving(target: Target) -> list[dict[str, Any]]:
    programs = []
    for program in serving.serving_programs(
        target.model, SelectionConfig(), target.mesh, target.sizes
    ):
        result = estimate(program, target.pod, target.mesh)
        print(report.text(result), flush=True)
        programs.append(result.as_dict())
    return programs


def _versions() -> str:
    """Returns the versions of everything that compiles; the pod must run the same."""
    names = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
    known = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return " ".join(f"{name} {known[name]}" for name in names if name in known)
