"""Tests what `xcomp scan` finds of damage, and that it reads earlier tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tests.video.clips import write_clip
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.data.mixture.scan import scan
from xcomp_jax.data.mixture.scan_table import EARLIER_HEADER, HEADER, read_table


def samples_of(*names: str) -> list[Sample]:
    turns = ({"from": "human", "value": "?"}, {"from": "gpt", "value": "!"})
    return [
        Sample(id=name, set=0, entry=i, media=Media(path=name, kind="video"), conversations=turns)
        for i, name in enumerate(names)
    ]


def test_scan_decode_counts_damaged_frames(tmp_path: Path) -> None:
    options = ["-c:v", "libx264", "-g", "20", "-movflags", "+faststart"]
    whole = write_clip(tmp_path / "whole.mp4", 100, block=32, options=options).read_bytes()
    broken = bytearray(whole)
    start = len(whole) // 2
    broken[start : start + 8] = bytes(byte ^ 0xFF for byte in broken[start : start + 8])
    (tmp_path / "broken.mp4").write_bytes(broken)
    tail = np.frombuffer(whole, np.uint8).copy()
    tail[start:] = 0
    (tmp_path / "tail.mp4").write_bytes(tail.tobytes())
    samples, out = samples_of("whole.mp4", "broken.mp4", "tail.mp4"), tmp_path / "scan.csv"
    quiet = {"workers": 2, "progress": False}
    table = scan(samples, tmp_path, out, **quiet)  # type: ignore[arg-type]
    found = {path: facts.damaged for (path, _), facts in table.items() if not facts.reason}
    assert found == {"whole.mp4": 0, "broken.mp4": 0}
    assert "ends with zeros" in table["tail.mp4", "video"].reason
    table = scan(samples, tmp_path, out, decode=True, **quiet)  # type: ignore[arg-type]
    assert table["whole.mp4", "video"].damaged == 0
    assert 0 < (table["broken.mp4", "video"].damaged or 0) <= 8
    assert read_table(out) == table
    table = scan(samples, tmp_path, out, decode=True, max_damaged=0.0, **quiet)  # type: ignore[arg-type]
    assert "is damaged" in table["broken.mp4", "video"].reason


def test_scan_earlier_table_is_read_and_renewed(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 20)
    samples, out = samples_of("a.mp4"), tmp_path / "scan.csv"
    table = scan(samples, tmp_path, out, workers=1, progress=False)
    columns = EARLIER_HEADER.split(",")
    with out.open(newline="") as file:
        rows = [[row[column] for column in columns] for row in csv.DictReader(file)]
    with out.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    earlier = read_table(out)["a.mp4", "video"]
    assert (earlier.file_frames, earlier.damaged) == (20, None)
    assert scan(samples, tmp_path, out, workers=1, progress=False) == table
    assert out.read_text().startswith(HEADER)
