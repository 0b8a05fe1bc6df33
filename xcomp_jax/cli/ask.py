"""`xcomp ask`: one question about one video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import add_cache_dir

if TYPE_CHECKING:
    from xcomp_jax.inference.session import Answer, Session

DESCRIPTION = """Answers a question about a video file (mp4, avi, ogg, webm, mkv, gif) or a folder
of images, and says where the time went. Without --checkpoint the tiny embedded model runs with
random weights: enough to try a video, a frame count or the memory it takes, not for answers."""

EXAMPLES = """examples:
  xcomp ask clip.mp4 "What color is the moving shape?" --checkpoint runs/smoke/checkpoint
  xcomp ask film.mp4 "Who arrives first?" --checkpoint checkpoints/xcomp-2b --frames 1024
  xcomp ask film.mp4 "What happens here?" --start 60 --end 90
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "ask",
        help="answer a question about a video",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", help="video file or folder of images")
    parser.add_argument("question")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="from xcomp tune or python -m convert"
    )
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="look at exactly N frames, a multiple of the encoder's clip length "
        "(default: chosen by duration, as the original does)",
    )
    parser.add_argument("--start", type=float, metavar="S", help="look only from this second on")
    parser.add_argument("--end", type=float, metavar="S", help="look only up to this second")
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--temperature", type=float, help="above 0: sample instead of greedy")
    parser.add_argument(
        "--top-p",
        type=float,
        help="with --temperature: only from the likeliest tokens of this mass",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="default: as the checkpoint"
    )
    add_cache_dir(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the answer goes to stdout, everything else to stderr."""
    # Heavy imports wait until here, so that --help answers at once.
    from tqdm import tqdm

    from xcomp_jax.inference.compilation import use_compilation_cache
    from xcomp_jax.video.probe import probe

    use_compilation_cache(options.cache_dir.expanduser())
    info = probe(options.video)  # first, because a mistyped name is the commonest mistake
    session = _session(options)
    with tqdm(desc="frames", unit="frame", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        answer = session.ask(
            info,
            options.question,
            num_frames=options.frames,
            start=options.start,
            end=options.end,
            progress=show,
        )
    print(answer.text)
    print(_account(answer), file=sys.stderr)
    return 0


def _session(options: argparse.Namespace) -> Session:
    import dataclasses

    from xcomp_jax.inference.open_session import embedded_session, open_session

    if options.checkpoint is None:
        print(
            "xcomp ask: no --checkpoint: random weights of the tiny embedded model, the answer "
            "means nothing. Train one with `xcomp tune --config configs/smoke.py --workdir "
            "runs/smoke` and give --checkpoint runs/smoke/checkpoint",
            file=sys.stderr,
        )
        session = embedded_session(dtype=options.dtype)
    else:
        session = open_session(options.checkpoint, dtype=options.dtype)
    changes = {
        "max_new_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
    }
    chosen = {name: value for name, value in changes.items() if value is not None}
    session.generation = dataclasses.replace(session.generation, **chosen)
    return session


def _account(answer: Answer) -> str:
    """Where the time went, one line."""
    parts = "  ".join(f"{name} {seconds:.2f} s" for name, seconds in answer.seconds.items())
    return (
        f"{answer.num_frames} frames of {answer.duration:.2f} s   {parts}   "
        f"{answer.compilations} programs compiled"
    )
