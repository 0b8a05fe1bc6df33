"""`xcomp ask`: answers questions about one video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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

DESCRIPTION = """Answers questions about a video file (mp4, avi, ogg, webm, mkv, gif) or a folder of
images. Each answer is one line on stdout; its costs go to stderr. Several questions share the work
on the video. Without --checkpoint, a tiny demo model with random weights is used; its answers are
meaningless."""

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
    parser.add_argument("question", nargs="*", help="question about the video; may be repeated")
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
    add_frames(parser)
    add_reading(parser)
    add_generation(parser)
    add_selection(parser)
    add_store(parser, default=None)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; answers go to stdout, everything else to stderr."""
    # Imported here to keep --help fast.
    from xcomp_jax.account import Account
    from xcomp_jax.evidence import check_evidence_path, write_evidence
    from xcomp_jax.inference.evidence import evidence_of

    questions = _questions(options)
    pages = _pages(options.evidence, len(questions))
    for page in pages:
        check_evidence_path(page)
    # Before the model is loaded, to report a wrong path at once.
    info = probe_video(options, options.video)
    session = load_session(options)
    for question in questions:
        session.check_question(question)
    with Account(), Bars() as bars:
        video = session.encode_video(
            info, num_frames=options.frames, start=options.start, end=options.end, progress=bars
        )
        answers = session.ask_all(video, questions, seed=options.seed, progress=bars)
    print_notes(video, "ask")
    for answer in answers:
        print(answer.text)
        print(cost_line(answer), file=sys.stderr)
    for answer, page in zip(answers, pages, strict=False):
        write_evidence(evidence_of(video, answer, model=_model_name(options)), page)
        print(f"evidence: {page}", file=sys.stderr)
    return 0


def _questions(options: argparse.Namespace) -> list[str]:
    questions = list(options.question)
    if options.questions is not None:
        lines = options.questions.read_text(encoding="utf-8").splitlines()
        questions += [line.strip() for line in lines if line.strip()]
    if not questions:
        raise ValueError("no question; add one after the video, or a file with --questions")
    return questions


def _pages(path: Path | None, count: int) -> list[Path]:
    if path is None:
        return []
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(count)]


def _model_name(options: argparse.Namespace) -> str:
    if options.checkpoint is None:
        return "demo model, random weights"
    return Path(options.checkpoint).resolve().name
