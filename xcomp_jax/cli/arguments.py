"""Defines options shared by several commands and builds sessions from them."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcomp_jax.cli.reading import with_reading
from xcomp_jax.terminal.values import real_number, seconds, whole_number

if TYPE_CHECKING:
    from xcomp_jax.config import MeshConfig, SelectionConfig
    from xcomp_jax.inference.session import Session

STORE = Path("~/.cache/xcomp-jax/tokens")
STORE_GIB = 50.0
GIB = 1 << 30

MAX_FRAMES = 1 << 17
"""Frames per question, four hours and a half at 8 per second; more would exhaust memory first."""

MAX_NEW_TOKENS = 1 << 15
"""Context length of the language model."""

MAX_SEED = (1 << 32) - 1
"""JAX would drop the higher bits of a larger seed."""


def add_cache_dir(parser: argparse.ArgumentParser) -> None:
    """Adds `--cache-dir`, the folder of compiled programs."""
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path("~/.cache/xcomp-jax/compiled"),
        metavar="DIR",
        help="folder of the compilation cache, which makes later runs start faster "
        "(default: %(default)s)",
    )


def add_model(parser: argparse.ArgumentParser, *, demo: bool = True) -> None:
    """Adds the options of the model, its dtype and its devices.

    Args:
        demo: whether the command uses the demo checkpoint without `--checkpoint`.
    """
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="folder written by `xcomp tune` or `xcomp convert`, or a Hugging Face hub id"
        + (" (default: the toy of `xcomp demo`)" if demo else ""),
    )
    parser.add_argument(
        "--revision",
        metavar="REV",
        help="branch, tag or commit of a hub id (default: main)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="dtype of parameters and arithmetic (default: float32 on a CPU, elsewhere the "
        "checkpoint's)",
    )
    parser.add_argument(
        "--mesh",
        type=parse_mesh,
        metavar="AXES",
        help="devices to use, such as data=4,fsdp=2 (default: all local devices; parameters are "
        "sharded only if they do not fit on one)",
    )
    add_cache_dir(parser)


def add_quantization(parser: argparse.ArgumentParser) -> None:
    """Adds `--quantize`."""
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="store the language model's matrices and the KV cache of videos in int8, in half the "
        "memory (default: off)",
    )


def add_generation(parser: argparse.ArgumentParser) -> None:
    """Adds the options of token generation."""
    parser.add_argument(
        "--max-new-tokens",
        type=whole_number(1, MAX_NEW_TOKENS),
        default=64,
        metavar="N",
        help="maximum number of tokens per answer (default: 64)",
    )
    parser.add_argument(
        "--temperature",
        type=real_number(0, 100),
        metavar="T",
        help="sampling temperature (default: 0, greedy)",
    )
    parser.add_argument(
        "--top-p",
        type=real_number(0, 1, above=True),
        metavar="P",
        help="with --temperature: sample from the smallest set of tokens with this total "
        "probability (default: 1)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, MAX_SEED),
        metavar="N",
        help="with --temperature: random seed of sampling (default: 0)",
    )


def add_frames(parser: argparse.ArgumentParser) -> None:
    """Adds the options of frame sampling."""
    parser.add_argument(
        "--frames",
        type=whole_number(1, MAX_FRAMES),
        metavar="N",
        help="number of frames to sample, a multiple of the encoder's clip length (default: by "
        "the checkpoint's sampling settings and the video's duration)",
    )
    parser.add_argument(
        "--start",
        type=seconds,
        metavar="TIME",
        help="start time, in seconds or as [h:]mm:ss (default: 0)",
    )
    parser.add_argument(
        "--end",
        type=seconds,
        metavar="TIME",
        help="end time, in seconds or as [h:]mm:ss (default: the video's end)",
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Adds the options of frame selection."""
    group = parser.add_argument_group(
        "frame selection",
        "By default, a question selects frames of videos with at least 1,024 sampled frames:\n"
        "512 frames below an hour, 2,048 from an hour on. Videos with no more frames than\n"
        "that use all of them.",
    )
    group.add_argument(
        "--select",
        type=parse_selected,
        metavar="K",
        help="number of frames to select, whatever the video's length; 'all' uses every frame",
    )
    group.add_argument(
        "--repeats",
        type=whole_number(1, 1024),
        metavar="R",
        help="rounds of scoring windows, each shifted (default: 2)",
    )
    group.add_argument(
        "--segment",
        type=whole_number(0, 4096),
        metavar="A",
        help="clips of 8 frames per scoring segment; 0 scores whole windows (default: 8)",
    )
    group.add_argument(
        "--stride",
        type=whole_number(1, 4096),
        metavar="B",
        help="clips between segments, at most --segment (default: 4)",
    )
    group.add_argument(
        "--layers",
        type=_layers,
        metavar="A:B",
        help="scored decoder layers, from A to B - 1 (default: 6:24 of 28)",
    )
    group.add_argument(
        "--granularity",
        choices=("frame", "clip"),
        help="'clip' selects whole clips and reuses their visual tokens: cheaper, not as published "
        "(default: frame)",
    )


def add_store(parser: argparse.ArgumentParser, *, default: Path | None) -> None:
    """Adds the options of the token store."""
    parser.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        default=default,
        help="folder that keeps visual tokens between runs "
        + ("(default: none)" if default is None else "(default: %(default)s)"),
    )
    parser.add_argument(
        "--store-gib",
        type=real_number(0.001),
        metavar="G",
        help="size limit of the store in GiB; least recently used videos are removed first "
        "(default: 50)",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Adds `--verbose`."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="print the account of every answer on stderr: time and work by step",
    )


def parse_selected(text: str) -> int | str:
    """Parses a number of selected frames, or "all"."""
    try:
        return text if text == "all" else whole_number(1, MAX_FRAMES)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or all") from None


def _layers(text: str) -> tuple[int, ...]:
    match = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not A:B, a first layer and one past the last, such as 6:24"
        )
    return int(match[1]), int(match[2])


def selection_of(options: argparse.Namespace) -> SelectionConfig | None:
    """Builds the frame selection from the options; None uses all frames."""
    from xcomp_jax.config import SelectionConfig
    from xcomp_jax.inference.open_session import DEFAULT_SELECTION

    if options.select == "all":
        return None
    whole_window = options.segment == 0
    values: dict[str, Any] = {
        "select": options.select,
        # An explicit number applies to videos of any length.
        "min_frames": None if options.select is None else 0,
        "repeats": options.repeats,
        "scope": "global" if whole_window else None,
        "segment_clips": None if whole_window else options.segment,
        "segment_stride": options.stride,
        "layers": options.layers,
        "granularity": options.granularity,
    }
    changes: Any = {name: value for name, value in values.items() if value is not None}
    return SelectionConfig(**changes) if changes else DEFAULT_SELECTION


def load_session(options: argparse.Namespace) -> Session:
    """Loads the session of `--checkpoint`; without it, opens the demo checkpoint and says so."""
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.engine.compile_progress import show_compilations
    from xcomp_jax.engine.generation_config import GenerationConfig
    from xcomp_jax.inference.open_demo import demo_note, open_demo
    from xcomp_jax.pretrained import from_pretrained
    from xcomp_jax.sharding import make_mesh
    from xcomp_jax.token_store import TokenStore

    names = ("max_new_tokens", "temperature", "top_p")
    generation: Any = {
        name: value for name in names if (value := getattr(options, name, None)) is not None
    }
    GenerationConfig(**generation)  # reports an invalid setting before the model is loaded
    use_compilation_cache(options.cache_dir.expanduser())
    show_compilations()
    settings: Any = {
        "dtype": options.dtype,
        "selection": selection_of(options),
        "store": None,
        "mesh": None if options.mesh is None else make_mesh(options.mesh),
        "quantize": getattr(options, "quantize", None),
    }
    if options.store is not None:
        max_bytes = int((options.store_gib or STORE_GIB) * GIB)
        settings["store"] = TokenStore(options.store.expanduser(), max_bytes=max_bytes)
    if options.checkpoint is None:
        print(f"xcomp {options.command}: no --checkpoint, so {demo_note()}", file=sys.stderr)
        session = open_demo(**settings)
    else:
        session = from_pretrained(options.checkpoint, revision=options.revision, **settings)
    session.generation = dataclasses.replace(session.generation, **generation)
    session.sampling = with_reading(session.sampling, options)
    return session


def parse_mesh(text: str) -> MeshConfig:
    """Parses `fsdp=4,tensor=2`; omitted axes have one device."""
    from xcomp_jax.config import ConfigError, MeshConfig
    from xcomp_jax.sharding import AXES

    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        match = re.fullmatch(rf"({'|'.join(AXES)})=(-1|[0-9]+)", part)
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not AXIS=N; use the axes {', '.join(AXES)} with a number of devices, "
                "or -1 for all remaining devices"
            )
        sizes[match[1]] = int(match[2])
    try:
        return MeshConfig(**sizes)
    except ConfigError as error:
        reason = str(error).rpartition(": ")[2]
        raise argparse.ArgumentTypeError(f"{text!r}: {reason}") from None
