"""Options of how a video file is read: its stream, and how much damage is accepted."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from xcomp_jax.terminal.values import real_number, whole_number

if TYPE_CHECKING:
    from xcomp_jax.config import SamplingConfig
    from xcomp_jax.inference.encoded_video import EncodedVideo
    from xcomp_jax.video.probe import VideoInfo


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Adds the options of reading a video file."""
    group = parser.add_argument_group("video file")
    group.add_argument(
        "--stream",
        type=whole_number(1, 1 << 16),
        metavar="N",
        help="number of the video stream to read, from 1 (default: as the original's reader "
        "chooses)",
    )
    group.add_argument(
        "--partial",
        action="store_true",
        default=None,
        help="read what a truncated file still holds (default: refuse it)",
    )
    limit = group.add_mutually_exclusive_group()
    limit.add_argument(
        "--max-damaged",
        type=real_number(0, 1),
        metavar="SHARE",
        help="largest share of damaged frames to accept; the nearest good frame replaces each "
        "(default: the checkpoint's setting, else 0.08)",
    )
    limit.add_argument(
        "--strict",
        dest="max_damaged",
        action="store_const",
        const=0.0,
        help="accept no damaged frame, as --max-damaged 0",
    )


def probe_video(options: argparse.Namespace, video: str) -> VideoInfo:
    """Probes a video with the options of `add_reading`; uses the packet lists in `--store`."""
    from xcomp_jax.video.probe import probe

    listings = None
    if options.store is not None:
        from xcomp_jax.token_store import TokenStore  # Imports JAX, which takes seconds.

        listings = TokenStore(options.store.expanduser()).listings
    return probe(video, stream=options.stream, partial=bool(options.partial), listings=listings)


def with_reading(sampling: SamplingConfig, options: argparse.Namespace) -> SamplingConfig:
    """Returns `sampling` with the limit of `--max-damaged`."""
    if options.max_damaged is None:
        return sampling
    return dataclasses.replace(sampling, max_damaged=options.max_damaged)


def print_notes(video: EncodedVideo, command: str) -> None:
    """Prints one line per damaged or ignored part of the video file."""
    for note in video.notes:
        print(f"xcomp {command}: {video.name}: {note}", file=sys.stderr)
