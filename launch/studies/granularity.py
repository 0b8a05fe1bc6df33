"""Compare the selection of whole clips, which encodes no clip twice, with that of frames."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.open_session import open_session
from xcomp_jax.inference.session import Session
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.sampling import FramePlan

DESCRIPTION = """Compares selection.granularity="clip", which encodes no clip twice, with the
published "frame". The model of a finished `xcomp tune --config configs/smoke.py --workdir
runs/smoke` answers questions about long videos, which are concatenations of its evaluation videos,
in both settings."""

EXAMPLES = """examples:
  python -m xcomp_jax.launch.studies.granularity runs/smoke
"""

NUM_QUESTIONS = 8
SELECT = 64
BY_FRAME = SelectionConfig(select=SELECT, min_frames=0, repeats=8, window_frames=128)
BY_CLIP = dataclasses.replace(BY_FRAME, granularity="clip")
FPS = 4.0


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of the two settings on one question.

    Attributes:
        shared: share of the frames selected by clip that are also selected by frame.
        same_text: whether the answers are equal.
        correlation: of the frame scores.
        encoded: clips encoded for the answer, by frame and by clip.
    """

    shared: float
    same_text: bool
    correlation: float
    encoded: tuple[int, int]

    @classmethod
    def of(cls, by_frame: Answer, by_clip: Answer) -> Agreement:
        """Compares two answers to the same question, each from selected frames."""
        assert by_frame.selected_frames is not None
        assert by_frame.scores is not None
        assert by_clip.selected_frames is not None
        assert by_clip.scores is not None
        common = set(by_frame.selected_frames) & set(by_clip.selected_frames)
        return cls(
            shared=len(common) / len(by_clip.selected_frames),
            same_text=by_frame.text == by_clip.text,
            correlation=float(np.corrcoef(by_frame.scores, by_clip.scores)[0, 1]),
            encoded=(
                by_frame.work.get("clips encoded", 0),
                by_clip.work.get("clips encoded", 0),
            ),
        )


def long_video(files: Sequence[Path], size: int) -> np.ndarray:
    """Concatenates every other frame of each file."""
    return np.stack(
        [frame for file in files for frame in read_frames(file, range(0, 16, 2), size=size)]
    )


def answers(session: Session, pixels: np.ndarray, questions: Sequence[str]) -> list[Answer]:
    """Answers questions about one video."""
    count = len(pixels)
    plan = FramePlan(tuple(range(count)), count / FPS, count, tuple(i / FPS for i in range(count)))
    video = session.encode_frames(ArrayFrames(pixels), plan, name="long")
    return session.ask_all(video, questions)


def compare(workdir: Path, *, videos: int, parts: int) -> tuple[int, list[Agreement]]:
    """Returns the frames per long video, and the agreement on every question."""
    manifest = workdir / "data" / "eval.json"
    rows = json.loads(manifest.read_text())
    files = list(dict.fromkeys(manifest.parent / row["video"] for row in rows))
    texts = [row["conversations"][0]["value"].removeprefix("<image>\n") for row in rows]
    questions = list(dict.fromkeys(texts))[:NUM_QUESTIONS]
    by_frame, by_clip = (
        open_session(workdir / "checkpoint", selection=selection)
        for selection in (BY_FRAME, BY_CLIP)
    )
    rng = np.random.default_rng(0)
    results: list[Agreement] = []
    for _ in range(videos):
        chosen_files = [files[i] for i in rng.integers(0, len(files), parts)]
        pixels = long_video(chosen_files, by_frame.config.vision.image_size)
        pairs = zip(
            answers(by_frame, pixels, questions), answers(by_clip, pixels, questions), strict=True
        )
        results += [Agreement.of(*pair) for pair in pairs]
    return len(pixels), results


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the mean agreement in a few lines."""
    parser = argparse.ArgumentParser(
        prog="python -m xcomp_jax.launch.studies.granularity",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", type=Path, help="folder of a finished smoke run")
    parser.add_argument(
        "--videos", type=int, default=8, metavar="N", help="long videos (default: 8)"
    )
    parser.add_argument(
        "--parts", type=int, default=32, metavar="N", help="short videos in each (default: 32)"
    )
    options = parser.parse_args(arguments)
    frames, results = compare(options.workdir, videos=options.videos, parts=options.parts)
    encoded = np.mean([result.encoded for result in results], axis=0)
    print(f"{len(results)} questions about {frames} frames, {SELECT} selected")
    print(
        f"selected frames in common: {np.mean([result.shared for result in results]):.1%} "
        f"(by chance {SELECT / frames:.1%})"
    )
    print(f"correlation of scores: {np.mean([result.correlation for result in results]):.3f}")
    print(f"equal answers: {np.mean([result.same_text for result in results]):.1%}")
    print(f"clips encoded per answer: {encoded[0]:.1f} by frame, {encoded[1]:.1f} by clip")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
