"""Writes a small mixture of media files of every kind, valid and bad, and opens it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import yaml
from PIL import Image

from xcomp_jax.config import MixtureConfig, SamplingConfig
from xcomp_jax.data.mixture.dataset import MixtureDataset, open_mixture
from xcomp_jax.data.mixture.features import FeatureStore
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan_table import Table
from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.text.tokenizer import load_tokenizer

SAMPLING = SamplingConfig(fps=8, min_frames=4, max_frames=16)
CLIP = 4
IMAGE_SIZE = 24
TOKENIZER = load_tokenizer(None)


def conversation(question: str, turns: int = 1) -> list[dict[str, str]]:
    """Returns a conversation of `turns` questions and answers."""
    first = {"from": "human", "value": f"<image>\n{question}"}
    rest = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "left"}] * (turns - 1)
    return [first, {"from": "gpt", "value": "red"}, *rest]


def write_mixture(folder: Path) -> MixtureConfig:
    """Writes sets of videos, folders, gifs and images; three of 13 samples are unusable."""
    _write_media(folder / "media")
    sets: dict[str, list[dict[str, Any]]] = {
        "videos.json": [
            {"video": "v0.mp4", "conversations": conversation("What moves?")},
            {"video": "v1.mp4", "conversations": conversation("What color?", turns=8)},
            {"video": "v1.mp4", "conversations": conversation("Which?"), "start": 0.5, "end": 1.5},
            {"video": "v2.mp4", "conversations": conversation("Who?")},
            {"video": "short.mp4", "conversations": conversation("How?")},
            {"video": "broken.mp4", "conversations": conversation("Why?")},
        ],
        "folders.jsonl": [{"video": "folder", "conversations": conversation("What?")}],
        "gifs.jsonl": [{"video": "v1.gif", "conversations": conversation("What?")}],
        "images.json": [
            {"image": f"i{i}.png", "conversations": conversation("What?")} for i in range(4)
        ]
        + [{"image": "none.png", "conversations": conversation("What?")}],
    }
    entries = []
    for name, rows in sets.items():
        is_lines = name.endswith("jsonl")
        text = "\n".join(map(json.dumps, rows)) if is_lines else json.dumps(rows)
        (folder / name).write_text(text)
        entries.append({"json_path": name, "data_root": "media"})
    entries[1]["video_read_type"] = "img"
    entries[2]["video_read_type"] = "gif"
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    return MixtureConfig(
        path=str(folder / "mixture.yaml"),
        root=str(folder),
        max_bad=0.3,
        read_ahead_gib=2e-4,  # seven examples, so that tests decode little beyond what they read
    )


def _write_media(folder: Path) -> None:
    (folder / "folder").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, frames in (("v0.mp4", 8), ("v1.mp4", 16), ("v2.mp4", 20), ("short.mp4", 3)):
        pixels = rng.integers(0, 256, (frames, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        encode_mp4(pixels, folder / name, fps=8)
    (folder / "broken.mp4").write_bytes((folder / "v1.mp4").read_bytes()[:300])
    for i in range(9):
        Image.new("RGB", (20, 20), (20 * i, 0, 0)).save(folder / "folder" / f"f_{i}.png")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    quiet = ("-loglevel", "error", "-y")
    subprocess.run([ffmpeg, *quiet, "-i", folder / "v1.mp4", folder / "v1.gif"], check=True)
    for i in range(4):
        Image.new("RGB", (30, 20), (0, 60 * i, 0)).save(folder / f"i{i}.png")


def open_example(
    config: MixtureConfig,
    table: Table,
    *,
    features: FeatureStore | None = None,
    skipped: Path | None = None,
    prompt_as_asked: bool = False,
) -> MixtureDataset:
    """Opens a mixture of `write_mixture` with the sampling and sizes of this module."""
    reader = MixtureReader(
        config=config,
        sampling=SAMPLING,
        image_size=IMAGE_SIZE,
        clip_frames=CLIP,
        tokenizer=TOKENIZER,
        max_text_tokens=192,
        prompt_as_asked=prompt_as_asked,
        table=table,
        features=features,
    )
    return open_mixture(load_mixture(config), reader, skipped_file=skipped, progress=False)
