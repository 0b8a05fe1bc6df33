"""`xcomp chat`: holds a conversation about one video."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import (
    add_frames,
    add_generation,
    add_model,
    add_quantization,
    add_selection,
    add_store,
    add_verbose,
    load_session,
)
from xcomp_jax.cli.checks import (
    check_checkpoint,
    check_options,
    check_question,
    check_within,
    refuse_without_effect,
)
from xcomp_jax.cli.display import Bars, cost_line
from xcomp_jax.cli.flag_names import with_flags
from xcomp_jax.cli.reading import add_reading, print_notes, probe_video
from xcomp_jax.terminal.values import real_number

if TYPE_CHECKING:
    from xcomp_jax.inference.chat import Conversation
    from xcomp_jax.inference.encoded_video import EncodedVideo
    from xcomp_jax.inference.session import Session

DESCRIPTION = """Encodes a video once and answers the questions of a conversation about it; each
turn prefills only its own text. Questions are typed, or read line by line from a pipe."""

EXAMPLES = """examples:
  xcomp chat film.mp4 --checkpoint checkpoints/xcomp-2b
  printf 'Who arrives?\\nWhen?\\n' | xcomp chat film.mp4 --checkpoint checkpoints/xcomp-2b
  xcomp chat recording.mkv --follow --checkpoint checkpoints/xcomp-2b
"""

COMMANDS = """commands, typed instead of a question:
  /new     start another conversation about the same video; its first question selects frames again
  /help    list the commands
  /exit    end, as do /quit, an empty line and the end of input
A question that begins with a slash needs a second one: //etc is shown. Why?
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "chat",
        help="hold a conversation about a video",
        description=DESCRIPTION,
        epilog=f"{EXAMPLES}\n{COMMANDS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "video", metavar="VIDEO", help="video file, folder of images, or with --follow a stream"
    )
    parser.add_argument(
        "--follow",
        type=_frame_rate,
        nargs="?",
        const=1.0,
        metavar="FPS",
        help="follow a video that is still being written (a growing mkv, webm, ts or ogg file, or "
        "a named pipe), sampling FPS frames per second (default: 1); each question is about the "
        "video so far",
    )
    add_model(parser)
    add_quantization(parser)
    add_frames(parser)
    add_reading(parser)
    add_generation(parser)
    add_selection(parser)
    add_store(parser, default=None)
    add_verbose(parser)
    parser.set_defaults(run=run)


def _frame_rate(text: str) -> float:
    try:
        return real_number(0, 1000, above=True)(text)
    except argparse.ArgumentTypeError as error:
        message = f"{error} frames per second; name the video before --follow"
        raise argparse.ArgumentTypeError(message) from None


def run(options: argparse.Namespace) -> int:
    """Runs the command; answers go to stdout, everything else to stderr."""
    check_options(options)
    check_checkpoint(options)
    if options.follow is not None:
        return _run_followed(options)

    info = probe_video(options, options.video)
    check_within(options, info.duration)
    session = load_session(options)
    with Bars() as bars:
        video = session.encode_video(
            info,
            num_frames=options.frames,
            start=options.start,
            end=options.end,
            progress=bars,
        )
    print_notes(video, "chat")
    from xcomp_jax.evidence.wording import duration_text, frame_count

    shown = f"{frame_count(video.num_frames)} of {duration_text(video.plan.duration)}"
    print(f"encoded {shown}", file=sys.stderr)
    return _converse(session, options, lambda: video)


def _run_followed(options: argparse.Namespace) -> int:
    refuse_without_effect(
        options,
        ("frames", "start", "end", "stream", "partial", "max_damaged", "store", "store_gib"),
        "with --follow, which takes every frame of the stream at FPS and keeps it in memory",
    )
    from xcomp_jax.video.stream import growing_file

    growing_file(options.video)
    session = load_session(options)
    from xcomp_jax.inference.follow import follow

    with follow(session, options.video, fps=options.follow) as live:
        live.ready.wait()
        if live.error is not None:
            raise live.error
        return _converse(session, options, live.encoded)


def _converse(
    session: Session, options: argparse.Namespace, current_video: Callable[[], EncodedVideo]
) -> int:
    conversation: Conversation | None = None
    while (line := _next_line()) not in ("", "/exit", "/quit"):
        # A followed video has grown since the last turn, so each turn starts a new conversation.
        if line == "/new" or options.follow is not None:
            conversation = None
        try:
            question = _question_of(line)
            if question is None:
                continue
            if conversation is None:
                conversation = session.chat(current_video())
            with Bars() as bars:
                answer = conversation.ask(question, seed=options.seed or 0, progress=bars)
        except ValueError as error:
            print(f"xcomp chat: {with_flags(str(error))}", file=sys.stderr)
            continue
        print(answer.text, flush=True)
        if options.verbose:
            print(cost_line(answer), file=sys.stderr)
    return 0


def _question_of(line: str) -> str | None:
    """Returns the question in a line, None for a command.

    Raises:
        ValueError: an unknown command, or bytes that are not UTF-8.
    """
    if line == "/help":
        print(COMMANDS, end="", file=sys.stderr)
    if line in ("/new", "/help"):
        return None
    if line.startswith("/") and not line.startswith("//"):
        raise ValueError(
            f"{line.split()[0]} is not a command; use /new, /help, /exit or /quit. For a question "
            "that begins with a slash, write two"
        )
    return check_question(line.removeprefix("/"))


def _next_line() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
