"""Trains a tiny model on needles, and generates its haystack."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from xcomp_jax.config import (
    DataConfig,
    ExperimentConfig,
    ProtocolConfig,
    SamplingConfig,
    SelectionConfig,
)
from xcomp_jax.data.synthetic.generate import VIDEO_FOLDER
from xcomp_jax.data.synthetic.mp4 import encode_mp4, is_complete_mp4
from xcomp_jax.data.synthetic.questions import Question, manifest_row
from xcomp_jax.data.synthetic.video_spec import COLORS, SHAPES
from xcomp_jax.evaluation.scoring import letter_at
from xcomp_jax.evaluation.synthetic_niah import (
    haystack_frames,
    needle_image,
    single_prompt,
    write_synthetic_niah,
)
from xcomp_jax.files import write_json
from xcomp_jax.inference.session import Session
from xcomp_jax.launch.bench.paper.toy import train
from xcomp_jax.pretrained import from_pretrained
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.stopping import StopRequest

SIZE, CLIP, FPS = 64, 4, 8
TRAINING_VIDEOS, HELD_OUT_VIDEOS = 160, 4
STEPS = 240

LENGTHS = (1000, 4000, 10_000)
DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
QUESTIONS = 4

SELECTION = SelectionConfig(
    select=2 * CLIP, min_frames=0, repeats=1, segment_clips=2, segment_stride=1, window_frames=64
)
"""Selects as many frames as the model was trained with: one score clip."""

TRAINING_SEED, TEST_SEED = 1_000, 0
"""The training videos share no texture with the haystack."""


def needle_data(folder: Path) -> Path:
    """Generates haystack, needles and questions once; returns the folder."""
    complete = folder / "complete"
    if not complete.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_synthetic_niah(
            folder,
            seed=TEST_SEED,
            # A haystack of 10,000 frames is 5,000 frames twice (`evaluation.haystack.encode`).
            frames=max(LENGTHS) // 2,
            size=SIZE,
            questions=QUESTIONS,
            chains=0,
            shuffle_options=False,
            grid=(LENGTHS, DEPTHS),
        )
        complete.touch()
    return folder


def needle_protocols() -> dict[str, ProtocolConfig]:
    """Returns the protocol of the tiny model, which knows only prompts with a time message."""
    protocol = ProtocolConfig(
        benchmark="niah_single",
        system="tiny model",
        sampling=SamplingConfig(fps=1, min_frames=8, max_frames=max(LENGTHS)),
        max_new_tokens=1,
        repetition_penalty=1.0,
    )
    return {"niah_single": protocol}


def needle_session(
    recipe: ExperimentConfig, folder: Path, observation: Observation, stop: StopRequest
) -> Session:
    """Returns the tiny model; trains it if there is none.

    Raises:
        Stopped: a stop was requested; the next call goes on from the newest checkpoint.
    """
    workdir = folder / "model"
    if not (workdir / "checkpoint").exists():
        manifests = _write_videos(folder / "data")
        stage = dataclasses.replace(
            recipe.stages[1],
            name="needles",
            num_steps=STEPS,
            learning_rate=recipe.stages[0].learning_rate,
            trainable=recipe.stages[0].trainable,
        )
        config = dataclasses.replace(
            recipe,
            name="needles",
            data=DataConfig(
                source="prepared",
                train=str(manifests[0]),
                held_out=str(manifests[1]),
                prompt_as_asked=True,
            ),
            sampling=SamplingConfig(fps=FPS, min_frames=2 * CLIP, max_frames=2 * CLIP),
            model=dataclasses.replace(recipe.model, compression=stage.compression),
            stages=(stage,),
        )
        train(config, 0, workdir, None, observation, stop)
    return from_pretrained(workdir / "checkpoint", selection=None)


def _write_videos(folder: Path) -> tuple[Path, Path]:
    """Writes videos of one clip of haystack and one clip of needle, in either order."""
    (folder / VIDEO_FOLDER).mkdir(parents=True, exist_ok=True)
    rows = [_write_video(folder, number) for number in range(TRAINING_VIDEOS + HELD_OUT_VIDEOS)]
    paths = folder / "train.json", folder / "validation.json"
    write_json(paths[0], rows[:TRAINING_VIDEOS])
    write_json(paths[1], rows[TRAINING_VIDEOS:])
    return paths


def _write_video(folder: Path, number: int) -> dict[str, object]:
    rng = np.random.default_rng([TRAINING_SEED, number])
    color, shape = str(rng.choice(COLORS)), str(rng.choice(SHAPES))
    hay = haystack_frames(CLIP, size=SIZE, seed=TRAINING_SEED + number)
    needle = np.repeat(np.asarray(needle_image((color, shape), SIZE))[None], CLIP, axis=0)
    frames = np.concatenate([hay, needle] if rng.integers(2) else [needle, hay])
    path = f"{VIDEO_FOLDER}/{number}.mp4"
    if not is_complete_mp4(folder / path):
        encode_mp4(frames, folder / path, fps=FPS)
    text, answer = single_prompt(None, shape, color)
    letters = tuple(letter_at(index) for index in range(len(COLORS)))
    question = Question(kind="needle", text=text, options=letters, answer=answer)
    return manifest_row(path, [question])
