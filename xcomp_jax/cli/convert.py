"""`xcomp convert`: checkpoint conversion from and to PyTorch, and verification."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import parse_mesh
from xcomp_jax.cli.checks import check_folder
from xcomp_jax.terminal.values import real_number

if TYPE_CHECKING:
    pass

DESCRIPTION = """Converts checkpoints from PyTorch to XComp-JAX and back, and verifies that no value
changed. Only safetensors are read; no code or pickle of a checkpoint is ever executed. If a
checkpoint has problems, all of them are listed and nothing is written."""

EXAMPLES = """examples:
  xcomp convert from-torch downloads/XComp-2B checkpoints/xcomp-2b
  xcomp convert verify downloads/XComp-2B checkpoints/xcomp-2b
  xcomp convert to-torch checkpoints/xcomp-2b exports/xcomp-2b
  xcomp convert variants

exit codes: 0 success (verify: equal); 1 error (verify: different); 2 wrong usage
"""

FROM_TORCH_EXAMPLES = """examples:
  xcomp convert from-torch downloads/XComp-2B checkpoints/xcomp-2b
  xcomp convert from-torch OWNER/NAME checkpoints/xcomp-2b
  xcomp convert from-torch OWNER/NAME checkpoints/xcomp-2b --revision v1.0
  xcomp convert from-torch downloads/VideoChat-Flash-Qwen2_5-2B_res448 checkpoints/base-2b \\
      --compression none
  xcomp convert from-torch downloads/XComp-2B checkpoints/xcomp-f32 --dtype float32
  xcomp convert from-torch downloads/XComp-2B checkpoints/xcomp-2b --mesh fsdp=-1

A folder needs config.json and model.safetensors, or shards with model.safetensors.index.json.
For a hub id, a branch or tag is resolved to its commit, which is printed and recorded in the model
card. Only configuration, tokenizer and safetensors files are downloaded, at that commit.
"""

TO_TORCH_EXAMPLES = """examples:
  xcomp convert to-torch checkpoints/tuned exports/tuned
  xcomp convert to-torch checkpoints/xcomp-2b exports/xcomp-2b --dtype float16 --max-shard-size 2GB

Python files are not written; add those of the PyTorch release that you use. The sizes of the vision
encoder must be those of the PyTorch code, so the smoke model cannot be exported.
"""

VERIFY_EXAMPLES = """examples:
  xcomp convert verify downloads/XComp-2B checkpoints/xcomp-2b
  xcomp convert verify checkpoints/xcomp-2b exports/xcomp-2b --report reports/xcomp-2b
  xcomp convert verify downloads/XComp-2B checkpoints/xcomp-f32 --allow-dtype
  xcomp convert verify downloads/XComp-2B checkpoints/xcomp-2b --activations recorded.npz

A and B are local folders, each a PyTorch checkpoint or an XComp-JAX checkpoint.

arrays of recorded.npz, for one or both parts of the model:
  encoder         pixel_values [clips, T, 3, S, S], with features [clips, T * patches, C] or
                  llm_embeds [clips, tokens, D] or both
  language model  input_ids [S] with the placeholder -200 for the video and visual_tokens
                  [clips, tokens, D], with any of hidden_after_layer_NN [rows, D],
                  final_normed_hidden [rows, D] and logits [rows, vocab]
"""

DTYPES = ("bfloat16", "float16", "float32")
SIZE_UNITS = {None: 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}

Command = Callable[[argparse.Namespace], int]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command; underscore spellings such as `from_torch` are aliases."""
    parser = commands.add_parser(
        "convert",
        help="convert checkpoints from and to PyTorch, verify them",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    conversions = parser.add_subparsers(dest="conversion", required=True, metavar="COMMAND")
    _add_from_torch(conversions)
    _add_to_torch(conversions)
    _add_verify(conversions)
    _add_command(conversions, "variants", "list the published models", _print_variants)


def _add_command(
    conversions: argparse._SubParsersAction,
    name: str,
    summary: str,
    command: Command,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    alias = name.replace("-", "_")
    parser = conversions.add_parser(
        name,
        aliases=[alias] if alias != name else [],
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=lambda options: _run(f"xcomp convert {name}", command, options))
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to create")
    parser.add_argument("--dtype", choices=DTYPES, help="dtype to write (default: as stored)")
    parser.add_argument(
        "--force", action="store_true", help="replace a folder at OUT that this command wrote"
    )


def _add_from_torch(conversions: argparse._SubParsersAction) -> None:
    parser = _add_command(
        conversions,
        "from-torch",
        "convert a PyTorch checkpoint to XComp-JAX",
        _convert_from_torch,
        FROM_TORCH_EXAMPLES,
    )
    parser.add_argument("source", metavar="SOURCE", help="local folder, or hub id OWNER/NAME")
    _add_output(parser)
    parser.add_argument(
        "--revision",
        metavar="REVISION",
        help="commit, branch or tag of the hub repository (default: main)",
    )
    parser.add_argument(
        "--compression",
        choices=("cosine", "none"),
        default="cosine",
        help="LP-Comp schedule of the model: cosine as published, or none for a base model "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--mesh",
        type=parse_mesh,
        metavar="AXES",
        help="read onto the devices of this machine and write from there, such as fsdp=4,tensor=2 "
        "(default: convert on the host with a few hundred MB of memory)",
    )


def _add_to_torch(conversions: argparse._SubParsersAction) -> None:
    parser = _add_command(
        conversions,
        "to-torch",
        "export an XComp-JAX checkpoint to PyTorch",
        _convert_to_torch,
        TO_TORCH_EXAMPLES,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="folder to export")
    _add_output(parser)
    parser.add_argument(
        "--max-shard-size",
        type=_size,
        default="5GB",
        metavar="SIZE",
        help="size limit of a file in bytes, KB, MB or GB (default: %(default)s)",
    )


def _add_verify(conversions: argparse._SubParsersAction) -> None:
    parser = _add_command(
        conversions, "verify", "compare two checkpoints of either kind", _verify, VERIFY_EXAMPLES
    )
    parser.add_argument("a", metavar="A", type=Path, help="checkpoint folder")
    parser.add_argument("b", metavar="B", type=Path, help="checkpoint folder to compare with A")
    parser.add_argument(
        "--atol",
        type=real_number(0),
        default=0.0,
        metavar="X",
        help="absolute tolerance: |a-b| <= atol + rtol*|b| is accepted (default: %(default)s)",
    )
    parser.add_argument(
        "--rtol",
        type=real_number(0),
        default=0.0,
        metavar="X",
        help="relative tolerance (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-dtype", action="store_true", help="accept another dtype if the values agree"
    )
    parser.add_argument(
        "--activations",
        type=Path,
        metavar="FILE.npz",
        help="compare the model of B with activations recorded in PyTorch, layer by layer",
    )
    parser.add_argument(
        "--activations-tolerance",
        type=real_number(0, above=True),
        default=1e-4,
        metavar="X",
        help="accepted difference relative to the largest value of a recorded array, for float32 "
        "recordings (default: %(default)s)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="PATH", help="write a report to PATH.json and PATH.txt"
    )


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)(B|KB|MB|GB)?", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; use a positive number such as 5000000, 500MB or 5GB"
        )
    return int(match[1]) * SIZE_UNITS[match[2]]


def _run(name: str, command: Command, options: argparse.Namespace) -> int:
    """Runs one conversion; an error is one message on stderr and exit code 2."""
    try:
        _check_names(options)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    # Heavy imports wait until here, so that --help answers at once.
    import jax

    if getattr(options, "mesh", None) is None:
        # A conversion on the host does not need an accelerator.
        jax.config.update("jax_platforms", "cpu")
    try:
        return command(options)
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def _check_names(options: argparse.Namespace) -> None:
    """Raises ValueError if a folder to read does not exist."""
    if "source" in options:
        check_folder(options.source, may_be_hub_id=True)
    for argument in ("checkpoint", "a", "b"):
        if argument in options:
            check_folder(getattr(options, argument))


def _convert_from_torch(options: argparse.Namespace) -> int:
    from xcomp_jax.config import CompressionConfig
    from xcomp_jax.convert.from_torch import convert_from_torch

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
    print(summary)
    return 0


def _convert_to_torch(options: argparse.Namespace) -> int:
    from xcomp_jax.convert.to_torch import convert_to_torch

    summary = convert_to_torch(
        options.checkpoint,
        options.out,
        dtype=options.dtype,
        max_shard_bytes=options.max_shard_size,
        overwrite=options.force,
        progress=True,
    )
    print(summary)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from xcomp_jax.convert.verify import verify

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


def _print_variants(options: argparse.Namespace) -> int:
    from xcomp_jax.convert.variants import variant_table

    print(variant_table())
    return 0
