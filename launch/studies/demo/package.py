"""Packages a finished run as the demo that ships with xcomp-jax, and checks its answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax import tree

from xcomp_jax.checkpoint import CheckpointReader, load_params, save_params
from xcomp_jax.checksums import checksums_of
from xcomp_jax.config import SamplingConfig, to_dict
from xcomp_jax.demo import demo_videos
from xcomp_jax.files import write_json
from xcomp_jax.inference.open_demo import open_demo
from xcomp_jax.launch.studies.demo.videos import write_videos
from xcomp_jax.text.tokenizer import load_tokenizer

SAMPLING = SamplingConfig(fps=4, min_frames=8, max_frames=512)
"""Of a video of any length; the run was trained on 8 frames."""

RECIPE = "recipe.json"
COMMANDS = (
    "python -m xcomp_jax.launch.studies.demo data runs/demo-data",
    "xcomp tune --config configs/demo.py --workdir runs/demo",
    "python -m xcomp_jax.launch.studies.demo package runs/demo",
)


def package(workdir: Path, folder: Path) -> None:
    """Writes checkpoint, videos, questions and recipe to `folder`, which replaces those in it."""
    checkpoint = workdir / "checkpoint"
    source = CheckpointReader(checkpoint).source
    config, params = load_params(checkpoint)
    save_params(
        folder / "checkpoint",
        dataclasses.replace(config, dtype="bfloat16"),
        tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params),
        source={
            "experiment": source["experiment"],
            "stage": source["stage"],
            "sampling": to_dict(SAMPLING),
        },
        tokenizer=load_tokenizer(str(checkpoint)),
        overwrite=True,
    )
    write_videos(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    recipe: dict[str, Any] = {
        "commands": COMMANDS,
        "seed": source["config"]["seed"],
        "stages": source["config"]["stages"],
        "bytes": sum(path.stat().st_size for path in files),
        "sha256": {
            name: sha256
            for name, (_, sha256) in checksums_of(folder, files).items()
            if name != RECIPE and not name.endswith(".py")
        },
    }
    write_json(folder / RECIPE, recipe)


def check() -> tuple[int, int]:
    """Asks every question about every demo video; prints each answer, returns (right, asked)."""
    session = open_demo()
    right = total = 0
    for video in demo_videos():
        encoded = session.encode_video(video.path)
        answers = session.ask_all(encoded, [question.text for question in video.questions])
        for question, answer in zip(video.questions, answers, strict=True):
            assert answer.selected_frames is not None
            frames = f"{min(answer.selected_frames)} to {max(answer.selected_frames)}"
            print(
                f"{video.title}: {question.text} {answer.text} ({question.answer}), "
                f"from frames {frames} of {answer.num_frames}"
            )
            right += answer.text == question.answer
            total += 1
    return right, total
