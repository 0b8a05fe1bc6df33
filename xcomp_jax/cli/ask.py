"""`xcomp ask`: questions about one video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xcomp_jax.cli.arguments import (
    Bars,
    account,
    add_frames,
    add_generation,
    add_model,
    add_selection,
    add_store,
    open_asked,
)

DESCRIPTION = """Answers questions about a video file (mp4, avi, ogg, webm, mkv, gif) or a folder of
images, one line each, and says where the time went. Several questions share the work on the video.
Without --checkpoint the tiny embedded model runs with random weights: enough to try a video, a
frame count or the memory it takes, not for answers."""

EXAMPLES = """examples:
  xcomp ask clip.mp4 "What color is the moving shape?" --checkpoint runs/smoke/checkpoint
  xcomp ask film.mp4 "Who arrives first?" --checkpoint checkpoints/xcomp-2b --frames 4096
  xcomp ask film.mp4 "Who arrives first?" "Where are they?" --select 256 --evidence first.html
  xcomp ask film.mp4 --questions questions.txt --store tokens
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "ask",
        help="answer questions about a video",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", help="video file or folder of images")
    parser.add_argument("question", nargs="*")
    parser.add_argument(
        "--questions", type=Path, metavar="FILE", help="more questions, one on each line"
    )
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="write what the answer rests on: a page to look at (.html) or data (.json); with "
        "several questions, FILE-1, FILE-2 ...",
    )
    add_model(parser)
    add_frames(parser)
    add_generation(parser)
    add_selection(parser)
    add_store(parser, default=None)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; answers go to stdout, everything else to stderr."""
    # Heavy imports wait until here, so that --help answers at once.
    from xcomp_jax.evidence import check_evidence_path, write_evidence
    from xcomp_jax.inference.answer import Stopwatch
    from xcomp_jax.inference.evidence import evidence_of
    from xcomp_jax.video.probe import probe

    questions = _questions(options)
    pages = _pages(options.evidence, len(questions))
    for page in pages:
        check_evidence_path(page)
    info = probe(options.video)  # first, because a mistyped name is the commonest mistake
    session = open_asked(options)
    for question in questions:
        session.check_question(question)
    stopwatch = Stopwatch()
    with Bars() as bars:
        memory = session.encode_video(
            info,
            num_frames=options.frames,
            start=options.start,
            end=options.end,
            progress=bars,
            stopwatch=stopwatch,
        )
        answers = session.ask_all(
            memory, questions, seed=options.seed, progress=bars, stopwatch=stopwatch
        )
    for answer in answers:
        print(answer.text)
        print(account(answer), file=sys.stderr)
    for answer, page in zip(answers, pages, strict=False):
        write_evidence(evidence_of(memory, answer, model=_model_name(options)), page)
        print(f"evidence: {page}", file=sys.stderr)
    return 0


def _questions(options: argparse.Namespace) -> list[str]:
    questions = list(options.question)
    if options.questions is not None:
        lines = options.questions.read_text(encoding="utf-8").splitlines()
        questions += [line.strip() for line in lines if line.strip()]
    if not questions:
        raise ValueError("no question: give one after the video, or a file with --questions")
    return questions


def _pages(path: Path | None, count: int) -> list[Path]:
    if path is None:
        return []
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(count)]


def _model_name(options: argparse.Namespace) -> str:
    if options.checkpoint is None:
        return "embedded model, random weights"
    return options.checkpoint.resolve().name
