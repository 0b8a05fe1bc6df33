"""`xcomp chat`: holds a conversation about one video."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import (
    Bars,
    add_frames,
    add_generation,
    add_model,
    add_selection,
    add_store,
    cost_line,
    load_session,
)
from xcomp_jax.cli.reading import add_reading, print_notes, probe_video

if TYPE_CHECKING:
    from xcomp_jax.inference.chat import Conversation
    from xcomp_jax.inference.encoded_video import EncodedVideo
    from xcomp_jax.inference.session import Session

DESCRIPTION = """Encodes a video once and answers the questions of a conversation about it; each
turn prefills only its own text. Questions are typed, or read line by line from a pipe. An empty
line or the end of input ends the conversation. /new starts another conversation about the same
video; its first question selects frames again."""

EXAMPLES = """examples:
  xcomp chat film.mp4 --checkpoint checkpoints/xcomp-2b
  printf 'Who arrives?\\nWhen?\\n' | xcomp chat film.mp4 --checkpoint checkpoints/xcomp-2b
  xcomp chat recording.mkv --follow --checkpoint checkpoints/xcomp-2b
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "chat",
        help="hold a conversation about a video",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", help="video file, folder of images, or with --follow a stream")
    parser.add_argument(
        "--follow",
        type=float,
        nargs="?",
        const=1.0,
        metavar="FPS",
        help="follow a video that is still being written (a growing mkv, webm, ts or ogg file, or "
        "a named pipe), sampling FPS frames per second (default: 1); each question is about the "
        "video so far",
    )
    add_model(parser)
    add_frames(parser)
    add_reading(parser)
    add_generation(parser)
    add_selection(parser)
    add_store(parser, default=None)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; answers go to stdout, everything else to stderr."""
    from xcomp_jax.inference.follow import follow

    session = load_session(options)
    if options.follow is not None:
        with follow(session, options.video, fps=options.follow) as live:
            live.ready.wait()
            if live.error is not None:
                raise live.error
            return _converse(session, options, live.encoded)
    with Bars() as bars:
        video = session.encode_video(
            probe_video(options, options.video),
            num_frames=options.frames,
            start=options.start,
            end=options.end,
            progress=bars,
        )
    print_notes(video, "chat")
    print(f"encoded {video.num_frames} frames of {video.plan.duration:.2f} s", file=sys.stderr)
    return _converse(session, options, lambda: video)


def _converse(
    session: Session, options: argparse.Namespace, current_video: Callable[[], EncodedVideo]
) -> int:
    conversation: Conversation | None = None
    while True:
        question = _next_question()
        if not question:
            return 0
        # A followed video has grown since the last turn, so each turn starts a new conversation.
        if question == "/new" or options.follow is not None:
            conversation = None
        if question == "/new":
            continue
        try:
            if conversation is None:
                conversation = session.chat(current_video())
            with Bars() as bars:
                answer = conversation.ask(question, seed=options.seed, progress=bars)
        except ValueError as error:
            print(f"xcomp chat: {error}", file=sys.stderr)
            continue
        print(answer.text, flush=True)
        print(cost_line(answer), file=sys.stderr)


def _next_question() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
