"""Count the encoder calls of ten questions about one video, with published selections."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from xcomp_jax.account import Account
from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.recut_clips import RecutClips
from xcomp_jax.inference.session import Session
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.variants import SMOKE
from xcomp_jax.video.sampling import FramePlan

DESCRIPTION = """Asks ten questions about a generated video of scenes and counts the clips that are
encoded: for one question, for ten, for ten without the clips of earlier questions, and by the
original's way, which encodes every window and the selected frames for every question. The model is
the smoke model with random weights; only its selection matters."""

EXAMPLES = """examples:
  python -m xcomp_jax.launch.studies.shared_clips
  python -m xcomp_jax.launch.studies.shared_clips --settings 1024:512:8:8
"""

SETTINGS = ("1024:256:2:8", "1024:256:2:4", "1024:512:8:8")
"""Frames, selected frames, repeats and frames of an encoder clip; MLVU, the same with the released
clip length, and Video-MME as published."""

WORDS = ("dog", "cat", "car", "man", "sun", "moon", "tree", "house", "ball", "train")
QUESTIONS = tuple(f"Why does the {word} move in part {i}?" for i, word in enumerate(WORDS))


@dataclasses.dataclass(frozen=True)
class Counts:
    """Encoded clips: of one question, of ten, of ten that share nothing, by the original's way."""

    one: int
    ten: int
    unshared: int
    original: int


def count(frames: int, select: int, repeats: int, clip_frames: int) -> Counts:
    """Counts the encoded clips of one setting."""
    vision = dataclasses.replace(SMOKE.vision, clip_frames=clip_frames)
    config = dataclasses.replace(SMOKE, vision=vision)
    selection = SelectionConfig(select=select, repeats=repeats, min_frames=0)
    params = init_params(config, jax.random.key(0))
    session = Session(config, params, load_tokenizer(None), selection=selection)
    pixels = scenes(frames, vision.image_size)
    plan = FramePlan(tuple(range(frames)), frames / 8, frames, tuple(i / 8 for i in range(frames)))
    with Account() as account:
        video = session.encode_frames(ArrayFrames(pixels), plan, name="scenes")
        prepared = account.take().work["clips encoded"]
    calls = _encoded(session, video)
    video.recut = RecutClips(max_bytes=0)
    unshared = _encoded(session, video)
    assert video.windows is not None
    windows = len(video.windows.starts) * video.windows.length
    return Counts(
        one=prepared + calls[0],
        ten=prepared + sum(calls),
        unshared=prepared + sum(unshared),
        original=len(QUESTIONS) * (windows + select) // clip_frames,
    )


def scenes(frames: int, size: int) -> np.ndarray:
    """Returns uint8 [frames, size, size, 3]: still scenes of 10 to 60 frames, with noise."""
    rng = np.random.default_rng(0)
    parts = [
        rng.integers(0, 256, (1, size, size, 3)) + rng.integers(-20, 20, (length, size, size, 3))
        for length in rng.integers(10, 60, frames // 10 + 1)
    ]
    return np.clip(np.concatenate(parts)[:frames], 0, 255).astype(np.uint8)


def _encoded(session: Session, video: EncodedVideo) -> list[int]:
    return [session.ask(video, text).work.get("clips encoded", 0) for text in QUESTIONS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m xcomp_jax.launch.studies.shared_clips",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        default=SETTINGS,
        metavar="F:K:R:T",
        help="frames, selected frames, repeats and frames per clip (default: "
        f"{' '.join(SETTINGS)})",
    )
    options = parser.parse_args(arguments)
    print(
        "| frames | selected | repeats | clip | one question | ten | ratio | unshared | original |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for text in options.settings:
        setting = [int(part) for part in text.split(":")]
        counts = count(*setting)
        cells = [*setting, counts.one, counts.ten, f"{counts.ten / counts.one:.2f}"]
        cells += [f"{counts.unshared / counts.one:.2f}", f"{counts.original / counts.one:.1f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
