"""Does it fit, and how fast can it be? Compiles a run's real programs for a pod that is not there.

    python -m launch.aot_compile --config configs/xcomp_2b.py --topology v5p:4x4x4
    python -m launch.aot_compile --config configs/xcomp_2b.py --topology v5p:4x4x4 --frames 4096 \\
        --mesh fsdp=16,context=4
    python -m launch.aot_compile --config configs/xcomp_2b.py --topology h100:8 --stages-only
    python -m launch.aot_compile --config configs/xcomp_2b.py --topology v5e:4x4 --mode serve \\
        --mesh data=-1,fsdp=1

Prints what each program needs of a device's memory against what there is, the work, what devices
send each other, and a floor for the time of a run: whichever of arithmetic, memory and links takes
longest at the vendor's figures. TPUs are v5e, v5p and v6e with the chips along each direction,
GPUs h100 and h200 with hosts x devices. Compiling the whole step takes minutes (for TPUs about 70
seconds of processor time for every distinct number of tokens, a tenth of that for GPUs);
--stages-only takes a fraction. For TPUs both also say with how little memory the compiler would
plan the whole step: it uses what there is. The exit code is 1 when something does not fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from xcomp_jax.launch.preflight.environment import ENVIRONMENT


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit code."""
    options = _parser().parse_args(arguments)
    os.environ.update(ENVIRONMENT)  # before JAX is imported
    from xcomp_jax.config import ConfigError

    try:
        estimates = _estimates(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(estimates, indent=1) + "\n", encoding="utf-8")
    return 0 if all(made["fits"] for made in estimates["programs"]) else 1


def _estimates(options: argparse.Namespace) -> dict[str, Any]:
    """Compiles and prints, program after program."""
    from xcomp_jax.config import ConfigError, SelectionConfig, on_devices
    from xcomp_jax.experiment import load_experiment
    from xcomp_jax.launch.preflight import advice, report, serving, stages, training
    from xcomp_jax.launch.preflight.estimate import estimate, least_needed
    from xcomp_jax.launch.preflight.pods import describe
    from xcomp_jax.sharding import make_mesh

    began = time.monotonic()
    config = load_experiment(options.config, options.set)
    pod, train = describe(options.topology), options.mode == "train"
    if options.mesh:
        config = dataclasses.replace(config, mesh=_mesh_config(options.mesh))
    if train:  # serving has a video for every device: no batch to share them
        config = on_devices(config, len(pod.devices))
    mesh = make_mesh(config.mesh, pod.devices)
    named = {stage.name: stage for stage in config.stages}
    stage = named.get(options.stage, config.stages[-1])
    if options.stage is not None and options.stage not in named:
        raise ConfigError(f"--stage {options.stage!r} not found; known: {', '.join(named)}")
    model = config.stage_model(stage)
    text = options.text or (config.data.max_text_tokens if train else 863)
    sizes = training.Sizes(
        frames=options.frames or config.sampling.max_frames,
        prefix=training.PREFIX_SLOTS,
        suffix=text - training.PREFIX_SLOTS,
        encoded=options.encoded,
    )
    about = {
        "config": config.name,
        "topology": options.topology,
        "device": pod.devices[0].device_kind,
        "mesh": dict(mesh.shape),
        "mode": options.mode,
        **({"micro batches": stage.accumulate_steps} if train else {}),
        "frames": sizes.frames,
        "text": text,
        "encoded": options.encoded,
        "compiler": _versions(),
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    results = []
    if train:
        program = training.step_program(model, stage, mesh, sizes)
        least = least_needed(program, pod, mesh)
        if options.stages_only:
            few = training.step_program(*stages.shortened(model, stage), mesh, sizes)
            short = estimate(few, pod, mesh)
            made = stages.extended(short, program, model, stage, mesh, sizes, pod, least)
        else:
            made = dataclasses.replace(estimate(program, pod, mesh), least_bytes=least)
        tried = advice.advice(made, stage, dict(mesh.shape))
        print(report.text(made, tried), flush=True)
        results.append({**made.as_dict(), "advice": tried})
    else:
        if options.stages_only:
            raise ConfigError("--stages-only is about the training step; leave out --mode serve")
        for program in serving.serving_programs(model, SelectionConfig(), mesh, sizes):
            made = estimate(program, pod, mesh)
            print(report.text(made), flush=True)
            results.append(made.as_dict())
    spent = {
        "wall_s": time.monotonic() - began,
        "cpu_s": time.process_time(),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print("this check took " + ", ".join(f"{name} {value:.1f}" for name, value in spent.items()))
    return {**about, "programs": results, "spent": spent}


def _mesh_config(text: str) -> Any:
    """`data=1,fsdp=32,context=2`; axes not named have one device."""
    from xcomp_jax.config import MeshConfig, from_dict

    pairs = (item.partition("=") for item in text.split(","))
    sizes = {name.strip(): int(n) if n.lstrip("-").isdigit() else n for name, _, n in pairs}
    return from_dict(MeshConfig, {"fsdp": 1, **sizes}, "--mesh")


def _versions() -> str:
    """Of what compiles: the pod should run the same."""
    names = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
    known = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return " ".join(f"{name} {known[name]}" for name in names if name in known)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.aot_compile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="such as configs/xcomp_2b.py")
    parser.add_argument("--topology", required=True, help="such as v5e:4x4, v5p:4x4x4, h100:8")
    parser.add_argument("--mode", choices=("train", "serve"), default="train")
    parser.add_argument(
        "--mesh", metavar="AXIS=N,...", help="instead of the configuration's, such as fsdp=-1"
    )
    parser.add_argument("--frames", type=int, help="of a video (the configuration's most)")
    parser.add_argument(
        "--text", type=int, help="tokens around it (train: the configuration's most; serve: 863)"
    )
    parser.add_argument(
        "--encoded", action="store_true", help="batches come from a token store: no video encoder"
    )
    parser.add_argument("--stage", help="stage of training (the last)")
    parser.add_argument(
        "--stages-only",
        action="store_true",
        help="quick: compile the first and the last stage of the decoder, extrapolate the others",
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
