"""Generated folders: reproducible files, LLaVA-style manifests, resumption after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from xcomp_jax.data.prepared.manifest import load_manifest
from xcomp_jax.data.synthetic.generate import generate, write_videos
from xcomp_jax.data.synthetic.mp4 import encode_mp4, is_complete_mp4
from xcomp_jax.data.synthetic.questions import questions
from xcomp_jax.data.synthetic.video_spec import COLORS, VideoSpec, plan_specs


@pytest.fixture(scope="module")
def specs() -> tuple[VideoSpec, ...]:
    return plan_specs(11, 4)


def test_write_videos_equal_specs_give_equal_bytes(
    specs: tuple[VideoSpec, ...], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_videos(specs, tmp_path / name, progress=False)
    for spec in specs:
        first, second = (tmp_path / name / spec.file_name for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_write_videos_keeps_complete_and_redraws_broken_files(
    specs: tuple[VideoSpec, ...], tmp_path: Path
) -> None:
    write_videos(specs, tmp_path, progress=False)
    paths = [tmp_path / spec.file_name for spec in specs]
    complete = [path.read_bytes() for path in paths]
    paths[1].write_bytes(complete[1][:-7])
    paths[2].write_bytes(b"")
    paths[3].unlink()
    assert [is_complete_mp4(path) for path in paths] == [True, False, False, False]
    modified = paths[0].stat().st_mtime_ns
    write_videos(specs, tmp_path, progress=False)
    assert [path.read_bytes() for path in paths] == complete
    assert paths[0].stat().st_mtime_ns == modified


def test_encode_mp4_failure_leaves_no_file_and_names_reason(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"odd\.mp4: ffmpeg could not encode"):
        encode_mp4(np.zeros((4, 33, 33, 3), np.uint8), tmp_path / "odd.mp4", fps=8)
    assert not list(tmp_path.iterdir())


def test_generate_writes_llava_style_manifests(tmp_path: Path) -> None:
    generated = generate(
        tmp_path, seed=0, num_train_videos=4, num_eval_videos=2, kinds=("color",), progress=False
    )
    rows = json.loads(generated.train_manifest.read_text())
    assert len(rows) == 4
    assert set(rows[0]) == {"id", "video", "conversations", "kind", "options"}
    assert rows[0]["conversations"][0]["value"].startswith("<image>\nQuestion: What color")
    assert rows[0]["conversations"][1]["value"] in COLORS
    assert (tmp_path / rows[0]["video"]).is_file()
    evaluation = load_manifest(generated.eval_manifest)
    assert [row.kind for row in evaluation] == ["color", "color"]
    assert not {row["video"] for row in rows} & {row.video for row in evaluation}


def test_generate_training_rows_hold_all_questions_of_a_video(tmp_path: Path) -> None:
    kinds = ("color", "flash_color", "flash_moment")
    generated = generate(
        tmp_path, seed=0, num_train_videos=16, num_eval_videos=16, kinds=kinds, progress=False
    )
    train = load_manifest(generated.train_manifest)
    evaluation = load_manifest(generated.eval_manifest)
    assert all(len(row.conversations) == 2 for row in evaluation)
    for spec in plan_specs(0, 16):
        rows = [row for row in train if row.video.endswith(spec.file_name)]
        answers = {question.answer for question in questions(spec, kinds)}
        assert [row.kind for row in rows] == [q.kind for q in questions(spec, kinds)]
        for row in rows:
            assert {turn["value"] for turn in row.conversations[1::2]} == answers
            assert row.conversations[0]["value"].startswith("<image>\n")
            assert not any("<image>" in turn["value"] for turn in row.conversations[1:])


SCRIPT = """
import sys
from pathlib import Path
from xcomp_jax.data.synthetic.generate import generate
generate(Path(sys.argv[1]), seed=1, num_train_videos=120, num_eval_videos=8, progress=False)
"""


def test_generate_after_a_kill_completes_the_same_files(tmp_path: Path) -> None:
    videos = tmp_path / "killed" / "videos"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "killed")])
    deadline = time.monotonic() + 30
    while len(list(videos.glob("*.mp4"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in videos.glob("*.mp4")}
    assert 10 <= len(early) < 128, "killed too early or too late for this test"
    (videos / f"{min(early).name}.{process.pid}.partial").write_bytes(b"cut off")

    for name in ("killed", "whole"):
        generate(tmp_path / name, seed=1, num_train_videos=120, num_eval_videos=8, progress=False)
    assert all(path.stat().st_mtime_ns == modified for path, modified in early.items()), (
        "drawn twice"
    )
    for pattern in ("videos/*.mp4", "*.json"):
        for path in sorted((tmp_path / "whole").glob(pattern)):
            resumed = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
            assert resumed.read_bytes() == path.read_bytes(), path.name
    assert list(videos.glob("*.partial")) == []
