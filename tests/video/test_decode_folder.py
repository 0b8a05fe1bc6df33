"""Tests read_frames on folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.clips import numbers, write_folder
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError


@pytest.mark.parametrize(
    "names",
    [
        [f"frame_{i}.jpg" for i in range(12)],  # 10 comes after 9
        [f"{i:05d}.png" for i in range(1, 13)],
        ["x9_1.png", "a10_2.png", "x1_3.png"],  # sorted by the last number only
        ["part2.1b.png", "part2.2b.png", "part10.1b.png"],  # no number at the end: natural order
        ["b_3.jpeg", "a_20.JPG", "c_100.png"],
    ],
)
def test_read_frames_folder_follows_file_numbers(tmp_path: Path, names: list[str]) -> None:
    folder = write_folder(tmp_path / "frames", names)
    indices = [0, 0, 1, len(names) - 1]
    assert numbers(read_frames(folder, indices)) == indices
    assert next(read_frames(folder, [0], size=20)).shape == (20, 20, 3)
    assert next(read_frames(folder, [0], size=20, resize="ffmpeg")).shape == (20, 20, 3)


def test_read_frames_alpha_and_grey_images_become_rgb(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    rgba = np.zeros((6, 5, 4), np.uint8)
    rgba[..., :3] = (10, 20, 30)
    Image.fromarray(rgba).save(tmp_path / "frames" / "f_0.png")
    Image.fromarray(np.full((6, 5), 77, np.uint8)).save(tmp_path / "frames" / "f_1.png")
    transparent, grey = read_frames(tmp_path / "frames", [0, 1])
    assert (transparent == (10, 20, 30)).all()
    assert (grey == 77).all()
    assert grey.shape == (6, 5, 3)


def test_read_frames_broken_image_names_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", ["f_0.png", "f_1.png"])
    (folder / "f_1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(VideoError, match=r"f_1\.png.*not a readable image"):
        list(read_frames(folder, [0, 1]))
