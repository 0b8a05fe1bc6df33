"""How `selection.granularity="clip"`, which encodes nothing twice, differs from the published way.

    python -m launch.qc_granularity runs/smoke

Takes a finished `xcomp tune --config configs/smoke.py --workdir runs/smoke`: its tuned model is
asked about long videos made of its evaluation videos, one after another, in both ways.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.open_session import open_session
from xcomp_jax.inference.session import Session
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.sampling import FramePlan

SELECT = 64
FAITHFUL = SelectionConfig(select=SELECT, min_frames=0, repeats=8, window_frames=128)
FPS = 4.0


def long_video(files: Sequence[Path], size: int) -> np.ndarray:
    """Every other frame of each file, in order."""
    return np.stack(
        [frame for file in files for frame in read_frames(file, range(0, 16, 2), size=size)]
    )


def ask(session: Session, pixels: np.ndarray, questions: Sequence[str]) -> list:
    """Answers about one video."""
    count = len(pixels)
    plan = FramePlan(tuple(range(count)), count / FPS, count, tuple(i / FPS for i in range(count)))
    memory = session.encode_frames(ArrayFrames(pixels), plan, name="long")
    return session.ask_all(memory, questions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a few lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--videos", type=int, default=8, help="long videos (default: 8)")
    parser.add_argument("--parts", type=int, default=32, help="short videos in each (default: 32)")
    options = parser.parse_args(arguments)
    manifest = options.workdir / "data" / "eval.json"
    rows = json.loads(manifest.read_text())
    files = list(dict.fromkeys(manifest.parent / row["video"] for row in rows))
    asked = [row["conversations"][0]["value"].removeprefix("<image>\n") for row in rows]
    questions = list(dict.fromkeys(asked))[:8]
    sessions = [
        open_session(options.workdir / "checkpoint", selection=selection)
        for selection in (FAITHFUL, dataclasses.replace(FAITHFUL, granularity="clip"))
    ]
    rng = np.random.default_rng(0)
    shared, same, correlation, encoded = [], [], [], []
    for _ in range(options.videos):
        parts = [files[i] for i in rng.integers(0, len(files), options.parts)]
        pixels = long_video(parts, sessions[0].config.vision.image_size)
        for faithful, clips in zip(*(ask(s, pixels, questions) for s in sessions), strict=True):
            shared.append(
                len(set(faithful.selected_frames) & set(clips.selected_frames))
                / len(clips.selected_frames)
            )
            same.append(faithful.text == clips.text)
            correlation.append(np.corrcoef(faithful.scores, clips.scores)[0, 1])
            encoded.append([answer.work.get("clips encoded", 0) for answer in (faithful, clips)])
    chance = SELECT / len(pixels)
    print(f"{len(shared)} questions about {len(pixels)} frames, {SELECT} kept")
    print(f"frames in common: {np.mean(shared):.1%} (by chance {chance:.1%})")
    print(f"correlation of frame scores: {np.mean(correlation):.3f}")
    print(f"same answer: {np.mean(same):.1%}")
    print("clips encoded for an answer: {:.1f} and {:.1f}".format(*np.mean(encoded, axis=0)))


if __name__ == "__main__":
    main()
