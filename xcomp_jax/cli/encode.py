"""`xcomp encode`: visual tokens of many videos into the store."""

from __future__ import annotations

import argparse
import sys

from xcomp_jax.cli.arguments import (
    STORE,
    Bars,
    add_frames,
    add_model,
    add_selection,
    add_store,
    open_asked,
)

DESCRIPTION = """Runs the video encoder once over every clip that questions about these videos may
need and keeps the visual tokens, so that xcomp ask and xcomp chat with the same --store, frames
and selection decode and encode nothing. Run again after any interruption: what is there is checked
and kept, what is missing or damaged is made. A video that cannot be read is reported and passed
over."""

EXAMPLES = """examples:
  xcomp encode film.mp4 talk.webm --checkpoint checkpoints/xcomp-2b --frames 4096
  xcomp encode clips/*.mp4 --checkpoint runs/smoke/checkpoint --store tokens --select all
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "encode",
        help="encode videos ahead of questions",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video file or folder of images")
    add_model(parser)
    add_frames(parser)
    add_selection(parser)
    add_store(parser, default=STORE)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; exit code 1 when some video could not be encoded."""
    from xcomp_jax.inference.answer import Stopwatch
    from xcomp_jax.video.errors import VideoError

    session = open_asked(options)
    failed = 0
    for video in options.videos:
        stopwatch = Stopwatch()
        try:
            with Bars() as bars:
                session.watch(
                    video,
                    num_frames=options.frames,
                    start=options.start,
                    end=options.end,
                    progress=bars,
                    stopwatch=stopwatch,
                    verify=True,
                )
        except VideoError as error:
            failed += 1
            print(f"xcomp encode: {error}", file=sys.stderr)
            continue
        work = stopwatch.work
        print(
            f"{video}: {work.get('clips encoded', 0)} clips encoded, "
            f"{work.get('clips reused', 0)} were there"
        )
    return 1 if failed else 0
