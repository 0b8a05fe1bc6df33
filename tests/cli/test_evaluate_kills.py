"""Tests that `xcomp evaluate` gives the same rows after any number of kills and processes."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.cli.evaluate_runs import arguments, copy_videos, rows_in
from tests.evaluation.layouts import write_json
from tests.evaluation.scripted_model import write_scripted_model
from tests.training.tune_processes import TuneProcess, start_command
from tests.write_video import write_video

KILLS = 50
VIDEOS = 12


@pytest.fixture(name="root")
def root_fixture(tmp_path: Path) -> Path:
    """Returns a folder with a model, and a benchmark of twelve videos with two questions each."""
    write_scripted_model(tmp_path / "b", "B")
    frames = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), np.uint8)
    write_video(tmp_path / "clip.mp4", frames.repeat(8, 1).repeat(8, 2), fps=4)
    rows = [
        {
            "video": f"{number}.mp4",
            "question": f"Why {part}?",
            "candidates": ["so", "thus", "never"],
            "answer": "thus" if number % 3 else "never",
        }
        for number in range(VIDEOS)
        for part in range(2)
    ]
    write_json(tmp_path / "data" / "json" / "action_sequence.json", rows)
    videos = tmp_path / "data" / "video" / "star" / "Charades_v1_480"
    copy_videos(tmp_path, videos, [f"{number}.mp4" for number in range(VIDEOS)])
    return tmp_path


def begin(root: Path, out: Path, count: int) -> list[TuneProcess]:
    """Starts all parts of a run."""
    return [
        start_command(
            arguments(root, root / "data", out, "--shard", f"{index}/{count}"),
            root / f"{time.monotonic_ns()}.log",
        )
        for index in range(count)
    ]


def num_rows(out: Path) -> int:
    files = (out / "mvbench").glob("rows*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)


def kill(running: list[TuneProcess], out: Path, draw: random.Random, longest: float) -> int:
    """Kills processes at random moments, half of them just after a new row; returns how many."""
    before, began = num_rows(out), time.monotonic()
    moment = draw.uniform(0, longest)
    by_row = draw.random() < 0.5
    while any(process.process.is_alive() for process in running):
        if by_row and num_rows(out) > before:
            time.sleep(draw.uniform(0, 0.05))
            break
        if not by_row and time.monotonic() - began > moment:
            break
        time.sleep(0.005)
    killed = [process for process in running if process.process.is_alive()]
    for process in killed:
        process.send(signal.SIGKILL)
    codes = [process.exit_code() for process in running]
    assert set(codes) <= {0, -signal.SIGKILL}, [process.output()[-2000:] for process in running]
    return codes.count(-signal.SIGKILL)


@pytest.mark.slow
def test_evaluate_fifty_kills_give_same_rows(root: Path) -> None:
    for process in begin(root, root / "whole", 1):
        process.wait_for_success()
    whole = rows_in(root / "whole")
    assert len(whole) == 2 * VIDEOS
    longest = 0.0
    for count in (4, 2):
        began = time.monotonic()
        for process in begin(root, root / f"by {count}", count):
            process.wait_for_success()
        longest = time.monotonic() - began  # With compiled programs, unlike the first run.
        assert rows_in(root / f"by {count}") == whole
    draw, kills = random.Random(0), 0
    counts: Counter[int] = Counter()
    for finished in itertools.count(1):
        out = root / f"killed {finished}"
        while num_rows(out) < len(whole) and kills < KILLS:
            count = draw.choice((1, 2, 4))
            killed = kill(begin(root, out, count), out, draw, longest)
            kills += killed
            counts[count] += killed
        for process in begin(root, out, draw.choice((1, 2, 4))):
            process.wait_for_success()
        # The same question may have been answered by two processes before one was killed.
        rows = [json.dumps(row, sort_keys=True) for row in rows_in(out)]
        assert list(dict.fromkeys(rows)) == [json.dumps(row, sort_keys=True) for row in whole]
        assert rows == list(dict.fromkeys(rows)), "a question was answered twice"
        print(f"{kills} kills, {finished} runs finished, by processes: {dict(counts)}", flush=True)
        if kills >= KILLS:
            break
    assert set(counts) == {1, 2, 4}
