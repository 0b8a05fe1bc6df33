"""Command line of the converter: `python -m convert --help`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from xcomp_jax.checkpoint import CheckpointError
from xcomp_jax.config import CompressionConfig, ConfigError, MeshConfig
from xcomp_jax.convert import activations, variants
from xcomp_jax.convert.dtypes import FLOATS
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.mesh import parse_mesh
from xcomp_jax.convert.to_torch import DEFAULT_SHARD_BYTES, convert_to_torch
from xcomp_jax.convert.verify import verify

_DESCRIPTION = """\
Checkpoints of the original PyTorch code into ours, back, and the proof that nothing changed.
Only safetensors are read; no code and no pickle of a checkpoint is ever executed. Everything that
is wrong is listed at once, and then nothing is written. Exit code: 0 done (verify: equal),
1 refused (verify: different), 2 wrong usage."""

_FROM_TORCH = """\
examples:
  python -m convert from_torch downloads/VideoChat-Flash-Qwen2_5-2B_res448 checkpoints/base-2b
  python -m convert from_torch owner/name checkpoints/xcomp --revision <40 hex digits of the commit>
  python -m convert from_torch downloads/xcomp checkpoints/xcomp-f32 --dtype float32
  python -m convert from_torch downloads/xcomp checkpoints/xcomp --mesh fsdp=-1

A folder needs config.json and model.safetensors, or shards with model.safetensors.index.json.
With a hub id only configuration, tokenizer and safetensors files are fetched, from the local hub
cache when they are there."""

_TO_TORCH = """\
examples:
  python -m convert to_torch checkpoints/tuned exports/tuned
  python -m convert to_torch checkpoints/tuned exports/tuned --dtype float16 --max-shard-size 2GB

The original's Python files are not written: put the release you use beside the weights."""

_VERIFY = """\
examples:
  python -m convert verify downloads/xcomp checkpoints/xcomp
  python -m convert verify checkpoints/xcomp exports/xcomp --report reports/xcomp
  python -m convert verify downloads/xcomp checkpoints/xcomp-f32 --allow-dtype
  python -m convert verify downloads/xcomp checkpoints/xcomp --activations recorded.npz

A and B are local folders, each either in the original's layout or a checkpoint of ours.

"""
_VERIFY += activations.__doc__ or ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    command = add("from_torch", "original's layout (or hub id) -> our checkpoint", _FROM_TORCH)
    command.add_argument("source", metavar="SRC", help="local folder, or hub id owner/name")
    command.add_argument("out", metavar="OUT", type=Path, help="folder to create")
    command.add_argument("--revision", metavar="COMMIT", help="commit of the hub repository")
    command.add_argument("--dtype", choices=sorted(FLOATS), help="default: as stored")
    command.add_argument(
        "--compression",
        choices=("cosine", "none"),
        default="cosine",
        help="LP-Comp schedule of the model: the published one (default), or none for a base model",
    )
    command.add_argument(
        "--mesh",
        type=_mesh,
        metavar="AXES",
        help="such as fsdp=4,tensor=2: read onto the devices of this machine and write from there; "
        "without it the host does everything in a few hundred MB",
    )
    command.add_argument("--force", action="store_true", help="replace a checkpoint at OUT")

    command = add("to_torch", "our checkpoint -> original's layout", _TO_TORCH)
    command.add_argument("checkpoint", metavar="CKPT", type=Path)
    command.add_argument("out", metavar="OUT", type=Path, help="folder to create")
    command.add_argument("--dtype", choices=sorted(FLOATS), help="default: as stored")
    command.add_argument(
        "--max-shard-size",
        type=_size,
        default=DEFAULT_SHARD_BYTES,
        metavar="SIZE",
        help="bytes, or 500MB, 5GB (powers of ten); default 5GB",
    )
    command.add_argument("--force", action="store_true", help="replace a checkpoint at OUT")

    command = add("verify", "compare two checkpoints of either kind", _VERIFY)
    command.add_argument("a", metavar="A", type=Path)
    command.add_argument("b", metavar="B", type=Path)
    command.add_argument(
        "--atol", type=float, default=0.0, help="accepted: |a-b| <= atol + rtol*|b|"
    )
    command.add_argument("--rtol", type=float, default=0.0)
    command.add_argument(
        "--allow-dtype", action="store_true", help="accept another dtype when the values agree"
    )
    command.add_argument(
        "--activations",
        type=Path,
        metavar="FILE.npz",
        help="also run the model of B against activations recorded with the original",
    )
    command.add_argument(
        "--activations-tolerance",
        type=float,
        default=1e-4,
        metavar="X",
        help="accepted difference relative to the largest value of a recorded array; default 1e-4, "
        "right for float32 recordings",
    )
    command.add_argument(
        "--report", type=Path, metavar="PATH", help="writes PATH.json and PATH.txt"
    )

    add("variants", "list the published models and their totals", "")
    return parser


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)(B|KB|MB|GB)?", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 5000000, 500MB or 5GB")
    return int(match[1]) * {None: 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[match[2]]


def _mesh(text: str) -> MeshConfig:
    try:
        return parse_mesh(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(options: argparse.Namespace) -> int:
    if options.command == "from_torch":
        summary = convert_from_torch(
            options.source,
            options.out,
            revision=options.revision,
            dtype=options.dtype,
            compression=CompressionConfig(schedule=options.compression),
            mesh=options.mesh,
            overwrite=options.force,
            progress=True,
        )
    elif options.command == "to_torch":
        summary = convert_to_torch(
            options.checkpoint,
            options.out,
            dtype=options.dtype,
            max_shard_bytes=options.max_shard_size,
            overwrite=options.force,
            progress=True,
        )
    elif options.command == "verify":
        report = verify(
            options.a,
            options.b,
            atol=options.atol,
            rtol=options.rtol,
            allow_dtype=options.allow_dtype,
            activations=options.activations,
            activations_tolerance=options.activations_tolerance,
            report=options.report,
            progress=True,
        )
        print(report.text(full=False))
        return 0 if report.equal else 1
    else:
        summary = variants.table()
    print(summary)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if getattr(options, "mesh", None) is None:
        # A matter of host memory and disk: no accelerator is claimed for it.
        jax.config.update("jax_platforms", "cpu")
    try:
        return _run(options)
    except (ConversionError, CheckpointError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
