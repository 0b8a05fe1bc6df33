"""`xcomp ask`: answers questions about one video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
from xcomp_jax.cli.checks import check_checkpoint, check_options, check_question, check_within
from xcomp_jax.cli.display import Bars, answer_line, cost_line
from xcomp_jax.cli.model_name import model_name
from xcomp_jax.cli.reading import add_reading, print_notes, probe_video

DESCRIPTION = """Answers questions about a video file (mp4, avi, ogg, webm, mkv, gif) or a folder of
images. Answers go to stdout, everything else to stderr. Several questions share the work on the
video. Without --checkpoint, a toy answers that knows only the videos and questions of
`xcomp demo`."""

EXAMPLES = """examples:
  xcomp ask clip.mp4 "What color is the moving shape?" --checkpoint runs/smoke/checkpoint
  xcomp ask film.mp4 "Who arrives first?" --checkpoint checkpoints/xcomp-2b --frames 4096
  xcomp ask film.mp4 "Who arrives first?" "Where are they?" --select 256 --evidence first.html
  xcomp ask film.mp4 --questions questions.txt --store tokens
  xcomp ask film.mp4 "Who speaks?" --start 1:30 --end 2:00 --verbose
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
    parser.add_argument("video", metavar="VIDEO", help="video file or folder of images")
    parser.add_argument(
        "question",
        nargs="*",
        default=[],
        metavar="QUESTION",
        help="question about the video; may be repeated",
    )
    parser.add_argument(
        "--questions", type=Path, metavar="FILE", help="file with more questions, one per line"
    )
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="write each answer's frames, scores and costs as a page (.html) or data (.json); "
        "with several questions, FILE-1, FILE-2, ...",
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


def run(options: argparse.Namespace) -> int:
    """Runs the command; answers go to stdout, everything else to stderr."""
    # Options, questions and names are checked first, with imports that take no time.
    check_options(options)
    questions = _questions(options)
    check_checkpoint(options)
    from xcomp_jax.account import Account, measure

    pages = _pages(options.evidence, len(questions))
    if pages:
        from xcomp_jax.evidence import check_evidence_path, write_evidence
    for page in pages:
        check_evidence_path(page)
    with Account(), Bars() as bars:
        with measure("probe"):
            info = probe_video(options, options.video)
        check_within(options, info.duration)
        with measure("load model"):
            session = load_session(options)
        for question in questions:
            session.check_question(question)
        video = session.encode_video(
            info, num_frames=options.frames, start=options.start, end=options.end, progress=bars
        )
        answers = session.ask_all(video, questions, seed=options.seed or 0, progress=bars)
    print_notes(video, "ask")
    print(answer_line(answers, sum(answer.wall_seconds for answer in answers)), file=sys.stderr)
    for answer in answers:
        print(answer.text, flush=True)
        if options.verbose:
            print(cost_line(answer), file=sys.stderr)
    if pages:
        from xcomp_jax.inference.evidence import evidence_of
    for answer, page in zip(answers, pages, strict=False):
        write_evidence(evidence_of(video, answer, model=model_name(options)), page)
        print(f"evidence: {page}", file=sys.stderr)
    return 0


def _questions(options: argparse.Namespace) -> list[str]:
    from xcomp_jax.files import read_text

    questions = list(options.question)
    if options.questions is not None:
        lines = read_text(options.questions).split("\n")
        questions += [line.strip() for line in lines if line.strip()]
    if not questions:
        raise ValueError("no question; add one after the video, or a file with --questions")
    return [check_question(question) for question in questions]


def _pages(path: Path | None, count: int) -> list[Path]:
    if path is None:
        return []
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(count)]
