"""Tests of finding a benchmark's videos and of checking a data folder."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import layouts
from tests.write_video import write_video
from xcomp_jax.config import SamplingConfig
from xcomp_jax.evaluation.check import check_folder, in_subset
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.media import VideoFinder, file_names, local_file
from xcomp_jax.evaluation.protocol import load_protocol
from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.tasks import TASKS

SAMPLING = SamplingConfig(fps=8, min_frames=16, max_frames=64)


def small_video(path: Path, frames: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, np.zeros((frames, 32, 32, 3), np.uint8), fps=8)


def frame_folder(path: Path, frames: int = 24) -> Path:
    path.mkdir(parents=True)
    for index in range(frames):
        Image.new("RGB", (16, 16)).save(path / f"{index}.jpg")
    return path


def question(video: str, *folders: str) -> Question:
    return Question(id="q", video=video, folders=folders, text="?")


def test_find_names_suffixes_and_folders(tmp_path: Path) -> None:
    small_video(tmp_path / "videos" / "a.mkv")
    frames = frame_folder(tmp_path / "frames" / "a")
    places = {
        extracted: VideoFinder(tmp_path, extracted_frames=extracted)
        .find(question("a.mp4", "videos", "frames"))
        .path
        for extracted in (False, True)
    }
    assert places == {False: tmp_path / "videos" / "a.mkv", True: frames}
    assert file_names("a.b")[:2] == ["a.b", "a.b.mp4"]


def test_find_missing_video_names_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"question q: video a\.mp4 is missing; looked in .*videos"):
        VideoFinder(tmp_path).find(question("a.mp4", "videos", ""))


def test_find_zipped_video_extracted_once(tmp_path: Path) -> None:
    video = small_video(tmp_path / "made" / "a.mp4")
    with zipfile.ZipFile(tmp_path / "videos_chunked_01.zip", "w") as archive:
        archive.write(video, "data/a.mp4")
    place = VideoFinder(tmp_path).find(question("a", "videos"))
    assert place.member == "data/a.mp4"
    copy = local_file(place, tmp_path / "cache")
    assert copy.read_bytes() == video.read_bytes()
    changed = copy.stat().st_mtime_ns
    assert local_file(place, tmp_path / "cache").stat().st_mtime_ns == changed
    assert [path.name for path in copy.parent.iterdir()] == ["a.mp4"]
    assert VideoFinder(tmp_path).find(question("a", "elsewhere")) == place
    (tmp_path / "b.zip").write_bytes(b"PK no archive")
    finder = VideoFinder(tmp_path)
    for _ in range(2):  # Not only the first time.
        with pytest.raises(DataError, match=r"b\.zip is damaged"):
            finder.find(question("a", "videos"))


def test_local_file_changed_member_extracted_anew(tmp_path: Path) -> None:
    """A copy that a killed run has left is not taken for the member of a new archive."""
    copies = []
    for content in ("first", "other"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.mp4", content)
        place = VideoFinder(tmp_path).find(question("a", "videos"))
        copies.append(local_file(place, tmp_path / "cache").read_text(encoding="utf-8"))
    assert copies == ["first", "other"]


@pytest.mark.parametrize("fault", ["damaged", "encrypted", "method"])
def test_check_folder_unusable_member_reported(fault: str, tmp_path: Path) -> None:
    layouts.charades(tmp_path)
    archive = tmp_path / "videos.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(small_video(tmp_path / "made.mp4"), "videos/3MSZA.mp4")
    content = bytearray(archive.read_bytes())
    central = content.rindex(b"PK\1\2")
    if fault == "damaged":
        content[60:120] = bytes(60)
    else:
        flags, value = (6, 1) if fault == "encrypted" else (8, 9)  # 9 is deflate64
        content[flags] = content[central + flags + 2] = value
    archive.write_bytes(content)
    protocol = dataclasses.replace(load_protocol("charades"), sampling=SAMPLING)
    report = check_folder(TASKS["charades"], tmp_path, protocol, progress=False)
    (video,) = report.videos
    assert (video.status, report.usable) == ("unreadable", False)
    assert "videos.zip: member videos/3MSZA.mp4 " in video.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "question v1_0: the subtitle file subtitles/v1_en.json is missing"),
        ('{"a": 1', "v1_en.json is not a subtitle file"),
        ('[{"timestamp": [0.0, 4.0], "text": null}]', "a subtitle's text is None"),
    ],
)
def test_check_folder_question_without_prompt_unusable(
    content: str | None, message: str, tmp_path: Path
) -> None:
    layouts.longvideobench(tmp_path)
    small_video(tmp_path / "videos" / "v1.mp4")
    protocol = dataclasses.replace(load_protocol("longvideobench"), sampling=SAMPLING)
    task, subtitles = TASKS["longvideobench"], tmp_path / "subtitles" / "v1_en.json"
    assert check_folder(task, tmp_path, protocol, progress=False).usable
    if content is None:
        subtitles.unlink()
    else:
        subtitles.write_text(content, encoding="utf-8")
    report = check_folder(task, tmp_path, protocol, progress=False)
    assert not report.usable
    assert "without a prompt: 1 questions, such as: " in report.text
    assert message in report.text


def test_find_zipped_namesakes_by_folder(tmp_path: Path) -> None:
    for source in ("clevrer/video_validation", "perception/videos"):
        with zipfile.ZipFile(tmp_path / f"{source.split('/')[0]}.zip", "w") as archive:
            archive.writestr(f"{source}/video_1.mp4", source)
    finder = VideoFinder(tmp_path)
    for source in ("perception/videos", "clevrer/video_validation"):
        place = finder.find(question("video_1.mp4", f"video/{source}", source))
        assert place.member == f"{source}/video_1.mp4"
        assert local_file(place, tmp_path / "cache").read_text(encoding="utf-8") == source
    with pytest.raises(DataError, match=r"several archives hold a video video_1\.mp4 \(clevrer"):
        finder.find(question("video_1.mp4", "films"))


def test_check_folder_each_fault_reported(tmp_path: Path) -> None:
    rows = [
        layouts.lvbench_row(video=video, question=f"{video} {index}?")
        for video in ("good", "short", "frames", "broken", "absent")
        for index in range(2)
    ]
    layouts.write_json(tmp_path / "json" / "lvbench_clean_tv.json", rows)
    small_video(tmp_path / "videos" / "good.mp4")
    small_video(tmp_path / "videos" / "short.mp4", frames=9)
    frame_folder(tmp_path / "frames" / "frames")
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"not a video")
    protocol = dataclasses.replace(load_protocol("lvbench"), sampling=SAMPLING)
    report = check_folder(TASKS["lvbench"], tmp_path, protocol, workers=2, progress=False)
    assert {video.video: video.status for video in report.videos} == {
        "good": "ok",
        "short": "short",
        "frames": "ok",
        "broken": "unreadable",
        "absent": "missing",
    }
    assert [video.frames for video in report.videos] == [32, 9, 24, 0, 0]
    assert not report.usable
    assert report.count("missing") == (1, 2)
    for line in ("10 questions on 5 videos", "no published set", "ok: 2 videos, 4 questions"):
        assert line in report.text
    assert "  absent: missing: question tv-8: video absent is missing" in report.text


def test_check_folder_clip_outside_video_reported(tmp_path: Path) -> None:
    row = {"question": "Why?", "candidates": ["so", "thus"], "answer": "thus", "video": "a.mp4"}
    rows = [row | {"start": 0.0, "end": 2.0}, row | {"start": 60.0, "end": 65.0}]
    layouts.write_json(tmp_path / "json" / "action_sequence.json", rows)
    small_video(tmp_path / "video" / "star" / "Charades_v1_480" / "a.mp4")
    protocol = dataclasses.replace(load_protocol("mvbench"), sampling=SAMPLING)
    (video,) = check_folder(TASKS["mvbench"], tmp_path, protocol, progress=False).videos
    assert video.status == "no frames"
    assert "the part from 60 s to 65 s holds no frame" in video.reason


def test_check_folder_clips_and_namesakes_kept_apart(tmp_path: Path) -> None:
    row = {"question": "Why?", "candidates": ["so", "thus"], "answer": "thus", "video": "a.mp4"}
    layouts.write_json(tmp_path / "json" / "moving_count.json", [row])
    layouts.write_json(tmp_path / "json" / "action_sequence.json", [row | {"start": 1, "end": 2}])
    small_video(tmp_path / "video" / "clevrer" / "video_validation" / "a.mp4")
    small_video(tmp_path / "video" / "star" / "Charades_v1_480" / "a.mp4", frames=40)
    protocol = dataclasses.replace(load_protocol("mvbench"), sampling=SAMPLING)
    report = check_folder(TASKS["mvbench"], tmp_path, protocol, progress=False)
    assert [(video.frames, video.status) for video in report.videos] == [(40, "short"), (32, "ok")]
    assert report.question_set.videos == 2
    first, second = TASKS["mvbench"].load(tmp_path)
    assert first.cluster != second.cluster


def test_check_folder_subtitles_and_answers_counted(tmp_path: Path) -> None:
    layouts.videomme(tmp_path)
    for number, frames in ((1, 32), (2, 9)):
        small_video(tmp_path / "videos" / f"video{number}.mp4", frames)
    protocol = dataclasses.replace(load_protocol("videomme_subtitles"), sampling=SAMPLING)
    report = check_folder(TASKS["videomme"], tmp_path, protocol, progress=False)
    assert report.usable  # A short video repeats frames.
    assert report.count("short") == (1, 1)
    assert report.missing_subtitles == ("subtitle/video1.srt", "subtitle/video2.srt")
    assert "subtitles missing: 2, such as subtitle/video1.srt" in report.text
    long_only = dataclasses.replace(protocol, subset="duration=long", subtitles=False)
    report = check_folder(TASKS["videomme"], tmp_path, long_only, progress=False)
    assert ([video.video for video in report.videos], report.missing_subtitles) == (["video2"], ())
    questions = TASKS["mlvu"].load(layouts.mlvu(tmp_path / "mlvu"))
    with pytest.raises(DataError, match="no question has task=9_none"):
        in_subset(questions, "task=9_none")
