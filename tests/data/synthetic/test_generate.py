"""The generated videos: balanced answers, reproducible files, answers visible in the pixels."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.data.rule_solver import solve
from xcomp_jax.data.prepared.manifest import load_manifest
from xcomp_jax.data.synthetic.generate import generate, write_videos
from xcomp_jax.data.synthetic.mp4 import encode_mp4, is_complete_mp4
from xcomp_jax.data.synthetic.questions import KINDS, questions
from xcomp_jax.data.synthetic.render import render
from xcomp_jax.data.synthetic.video_spec import COLORS, VideoSpec, plan_specs
from xcomp_jax.video.decode import read_frames

NUM_VIDEOS = 96


@pytest.fixture(scope="module")
def specs() -> tuple[VideoSpec, ...]:
    return plan_specs(11, NUM_VIDEOS)


@pytest.fixture(scope="module")
def decoded(
    specs: tuple[VideoSpec, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[np.ndarray]:
    """Frames of every spec after the way through an mp4 file, uint8 [F, H, W, 3]."""
    folder = tmp_path_factory.mktemp("videos")
    write_videos(specs, folder, progress=False)
    return [
        np.stack(list(read_frames(folder / spec.file_name, range(spec.num_frames))))
        for spec in specs
    ]


def accuracy(specs: tuple[VideoSpec, ...], videos: list[np.ndarray]) -> dict[str, float]:
    """Share of right answers of the rule solver by kind."""
    right = collections.defaultdict(list)
    for spec, frames in zip(specs, videos, strict=True):
        guesses = solve(frames)
        for question in questions(spec):
            right[question.kind].append(guesses[question.kind] == question.answer)
    return {kind: float(np.mean(values)) for kind, values in right.items()}


# --- answers in words --------------------------------------------------------------------------


def test_plan_is_deterministic_and_seeds_share_nothing() -> None:
    assert plan_specs(3, 40) == plan_specs(3, 40)
    other = plan_specs(4, 40)
    assert not {spec.seed for spec in plan_specs(3, 40)} & {spec.seed for spec in other}
    # A longer plan is another draw, not a continuation, but its textures are the same ones.
    assert [spec.seed for spec in plan_specs(3, 8)] == [spec.seed for spec in plan_specs(3, 40)][:8]


@pytest.mark.parametrize("n", [16, 96, 400])
def test_every_answer_is_equally_frequent(n: int) -> None:
    asked = [question for spec in plan_specs(5, n) for question in questions(spec)]
    for kind in KINDS:
        counts = collections.Counter(q.answer for q in asked if q.kind == kind)
        options = next(q.options for q in asked if q.kind == kind)
        expected = 3 * n // 16 if kind == "flash_color" else n // 4
        assert counts == dict.fromkeys(options, expected), kind


def test_counts_differ_by_at_most_one_for_any_number() -> None:
    asked = [question for spec in plan_specs(0, 45) for question in questions(spec)]
    for kind in KINDS:
        counts = collections.Counter(q.answer for q in asked if q.kind == kind)
        assert max(counts.values()) - min(counts.values()) <= 1, kind


def test_text_alone_is_right_once_in_four() -> None:
    """The best reader of train texts, tried on eval texts, stays at chance for every kind."""
    train, evaluation = (
        [q for s in plan_specs(seed, 160) for q in questions(s)] for seed in (0, 1)
    )
    votes = collections.defaultdict(collections.Counter)
    for question in train:
        votes[question.text][question.answer] += 1
    for kind in KINDS:
        rows = [q for q in evaluation if q.kind == kind]
        assert len({q.text for q in rows}) == 1, "the text of a kind must not vary"
        guess = votes[rows[0].text].most_common(1)[0][0]
        assert np.mean([q.answer == guess for q in rows]) == 0.25, kind


def test_one_answer_does_not_tell_another() -> None:
    """Among videos with a flash: without one, that there is none tells of course."""
    specs = plan_specs(2, 1600)
    for known, asked in itertools.permutations(KINDS, 2):
        pairs = collections.Counter(
            (answers[known], answers[asked])
            for answers in ({q.kind: q.answer for q in questions(spec)} for spec in specs)
            if known in answers and asked in answers and answers["flash_moment"] != "never"
        )
        best = sum(
            max(count for (a, _), count in pairs.items() if a == given)
            for given in {a for a, _ in pairs}
        )
        chance = 1 / len({b for _, b in pairs})
        assert best / pairs.total() < chance + 0.06, (known, asked)


def test_question_lists_its_options_and_answer() -> None:
    for spec in plan_specs(0, 32):
        for question in questions(spec):
            assert question.answer in question.options
            assert all(option in question.text for option in question.options)
    assert [q.kind for q in questions(plan_specs(0, 1)[0], ("shape", "color"))] == [
        "shape",
        "color",
    ]
    with pytest.raises(ValueError, match=r"'size' is unknown; known: .*'color'"):
        questions(plan_specs(0, 1)[0], ("size",))


def test_flash_lies_in_its_third() -> None:
    for spec in plan_specs(9, 200, num_frames=20):
        frames = spec.flash_frames
        if spec.flash_moment == "never":
            assert len(frames) == 0
            continue
        third = ("early", "middle", "late").index(spec.flash_moment)
        assert 2 <= len(frames) <= 3
        assert third * 20 <= 3 * frames.start
        assert 3 * frames.stop <= (third + 1) * 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "pink"}, "color='pink'"),
        ({"flash_color": None}, "flash_moment='late'"),
        ({"flash_moment": "never"}, "flash_color='blue'"),
        ({"size": 63}, "size=63"),
        ({"num_frames": 8}, "num_frames=8"),
    ],
)
def test_impossible_specs_are_refused(change: dict[str, object], message: str) -> None:
    good = next(s for s in plan_specs(0, 64) if (s.flash_moment, s.flash_color) == ("late", "blue"))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **change)  # type: ignore[arg-type]


# --- answers in pixels -------------------------------------------------------------------------


def test_render_is_deterministic_and_names_follow_content(specs: tuple[VideoSpec, ...]) -> None:
    np.testing.assert_array_equal(render(specs[0]), render(specs[0]))
    assert render(specs[0]).shape == (16, 64, 64, 3)
    assert (render(specs[0]) != render(dataclasses.replace(specs[0], seed=1))).any()
    other = dataclasses.replace(specs[0], num_frames=24)
    assert other.file_name != specs[0].file_name
    assert len({spec.file_name for spec in specs}) == NUM_VIDEOS


def test_answers_survive_the_mp4_file(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    worst = [np.abs(render(s).astype(int) - v).mean() for s, v in zip(specs, decoded, strict=True)]
    assert max(worst) < 4  # grey levels
    scores = accuracy(specs, decoded)
    assert set(scores) == set(KINDS)
    assert min(scores.values()) > 0.95, scores


def test_without_the_pixels_the_solver_knows_nothing(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    blank = accuracy(specs, [np.full_like(video, 60) for video in decoded])
    assert max(blank.values()) < 0.4, blank
    swapped = accuracy(specs, decoded[1:] + decoded[:1])  # every video under its neighbour's name
    assert max(swapped.values()) < 0.4, swapped


def test_without_the_order_of_frames_time_is_lost(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    """Backwards, left is right. Shuffled, only the axis and the absence of a flash can be seen,
    which bounds both kinds by one half; what asks for no order stays answerable."""
    backwards = accuracy(specs, [video[::-1] for video in decoded])
    assert backwards["direction"] < 0.05, backwards
    assert backwards["flash_moment"] < 0.55, backwards  # middle and never read the same
    rng = np.random.default_rng(0)
    shuffled = accuracy(specs, [video[rng.permutation(len(video))] for video in decoded])
    assert shuffled["direction"] < 0.65, shuffled
    assert shuffled["flash_moment"] < 0.7, shuffled
    assert min(shuffled[kind] for kind in ("color", "shape", "flash_color")) > 0.95, shuffled


def test_one_frame_does_not_hold_the_event(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    """The flash is brief: a reader of every eighth frame misses it in most videos."""
    sparse = accuracy(specs, [video[::8] for video in decoded])
    assert sparse["flash_color"] < 0.65, sparse


# --- files -------------------------------------------------------------------------------------


def test_same_spec_gives_same_bytes(specs: tuple[VideoSpec, ...], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_videos(specs[:4], tmp_path / name, progress=False)
    for spec in specs[:4]:
        first, second = (tmp_path / name / spec.file_name for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_whole_files_stay_and_broken_ones_are_drawn_again(
    specs: tuple[VideoSpec, ...], tmp_path: Path
) -> None:
    write_videos(specs[:4], tmp_path, progress=False)
    paths = [tmp_path / spec.file_name for spec in specs[:4]]
    whole = [path.read_bytes() for path in paths]
    paths[1].write_bytes(whole[1][:-7])
    paths[2].write_bytes(b"")
    paths[3].unlink()
    assert [is_complete_mp4(path) for path in paths] == [True, False, False, False]
    untouched = paths[0].stat().st_mtime_ns
    write_videos(specs[:4], tmp_path, progress=False)
    assert [path.read_bytes() for path in paths] == whole
    assert paths[0].stat().st_mtime_ns == untouched


def test_failed_encoding_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"odd\.mp4: ffmpeg could not encode"):
        encode_mp4(np.zeros((4, 33, 33, 3), np.uint8), tmp_path / "odd.mp4", fps=8)
    assert not list(tmp_path.iterdir())


def test_manifests_are_llava_style(tmp_path: Path) -> None:
    made = generate(
        tmp_path, seed=0, num_train_videos=4, num_eval_videos=2, kinds=("color",), progress=False
    )
    rows = json.loads(made.train_manifest.read_text())
    assert len(rows) == 4
    assert set(rows[0]) == {"id", "video", "conversations", "kind", "options"}
    assert rows[0]["conversations"][0]["value"].startswith("<image>\nQuestion: What color")
    assert rows[0]["conversations"][1]["value"] in COLORS
    assert (tmp_path / rows[0]["video"]).is_file()
    parsed = load_manifest(made.eval_manifest)
    assert [row.kind for row in parsed] == ["color", "color"]
    assert not {row["video"] for row in rows} & {row.video for row in parsed}


def test_training_conversations_ask_every_question_of_a_video(tmp_path: Path) -> None:
    kinds = ("color", "flash_color", "flash_moment")
    made = generate(
        tmp_path, seed=0, num_train_videos=16, num_eval_videos=16, kinds=kinds, progress=False
    )
    train, evaluation = load_manifest(made.train_manifest), load_manifest(made.eval_manifest)
    assert all(len(row.conversations) == 2 for row in evaluation)
    for spec in plan_specs(0, 16):
        asked = [row for row in train if row.video.endswith(spec.file_name)]
        expected = {question.answer for question in questions(spec, kinds)}
        assert [row.kind for row in asked] == [q.kind for q in questions(spec, kinds)]
        for row in asked:
            assert {turn["value"] for turn in row.conversations[1::2]} == expected
            assert row.conversations[0]["value"].startswith("<image>\n")
            assert not any("<image>" in turn["value"] for turn in row.conversations[1:])


def test_killed_run_continues(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from xcomp_jax.data.synthetic.generate import generate\n"
        "generate(Path(sys.argv[1]), seed=1, num_train_videos=120, num_eval_videos=8,"
        " progress=False)"
    )
    videos = tmp_path / "killed" / "videos"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")])
    deadline = time.monotonic() + 30
    while len(list(videos.glob("*.mp4"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in videos.glob("*.mp4")}
    assert 10 <= len(early) < 128, "killed too early or too late to show anything"

    for name in ("killed", "whole"):
        generate(tmp_path / name, seed=1, num_train_videos=120, num_eval_videos=8, progress=False)
    assert all(path.stat().st_mtime_ns == when for path, when in early.items()), "drawn twice"
    for pattern in ("videos/*.mp4", "*.json"):
        whole = sorted((tmp_path / "whole").glob(pattern))
        for path in whole:
            again = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
            assert again.read_bytes() == path.read_bytes(), path.name
