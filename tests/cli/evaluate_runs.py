"""Commands and rows of `xcomp evaluate`, for its tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def copy_videos(root: Path, folder: Path, names: list[str]) -> None:
    """Copies the video under several names, with a byte more each, so that the contents differ."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        shutil.copy(root / "clip.mp4", folder / name)
        with (folder / name).open("ab") as file:
            file.write(b"\0\0\0\x08free" * (number + 1))


def arguments(root: Path, data: Path, out: Path, *more: str, model: str = "b") -> list[str]:
    options = ["--benchmark", "mvbench", "--data", str(data), "--out", str(out)]
    options += ["--checkpoint", str(root / model), "--cache-dir", str(root / "cache")]
    return ["evaluate", *options, *more]


def rows_in(out: Path, benchmark: str = "mvbench") -> list[dict[str, Any]]:
    """Returns the rows of all processes by id, without times."""
    lines = [
        json.loads(line)
        for file in (out / benchmark).glob("rows*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    for line in lines:
        del line["seconds"], line["time"]
    return sorted(lines, key=lambda line: line["id"])
