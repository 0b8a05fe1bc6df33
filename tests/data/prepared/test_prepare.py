"""Preparing: right frames beside right questions, reuse, all problems at once, killed builds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.rule_solver import solve
from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.pipeline import eval_batches
from xcomp_jax.data.prepared import prepare as prepared
from xcomp_jax.data.prepared.dataset import SUMMARY_FILE, PreparedDataset
from xcomp_jax.data.prepared.manifest import ManifestError, load_manifest
from xcomp_jax.data.prepared.prepare import PrepareError, prepare
from xcomp_jax.data.synthetic.generate import GeneratedSet, generate
from xcomp_jax.text import prompts
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.video.decode import read_frames

TOKENIZER = load_tokenizer(None)
SETTINGS: dict[str, Any] = {
    "sampling": SamplingConfig(fps=8, min_frames=16, max_frames=16),
    "image_size": 64,
    "clip_frames": 4,
    "tokenizer": TOKENIZER,
    "max_text_tokens": 192,
    "progress": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSet:
    folder = tmp_path_factory.mktemp("generated")
    return generate(folder, seed=3, num_train_videos=8, num_eval_videos=16, progress=False)


@pytest.fixture(scope="module")
def evaluation(made: GeneratedSet, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare(made.eval_manifest, tmp_path_factory.mktemp("prepared"), **SETTINGS)


def contents(dataset: PreparedDataset) -> list[Any]:
    """Everything a reader can see, comparable."""
    frames = [dataset.frames(i).tobytes() for i in range(dataset.num_videos)]
    rows = [(row.id, row.answer, row.tokens.input_ids.tobytes()) for row in dataset.rows]
    return [dataset.fingerprint, dataset.max_frames, frames, rows]


def edited(manifest: Path, **change: Any) -> Path:
    """A copy beside `manifest` whose entries with number in `change["rows"]` are updated."""
    entries = json.loads(manifest.read_text())
    for number, update in change["rows"].items():
        entries[number] |= update
    copy = manifest.with_name(f"edited-{time.monotonic_ns()}.json")
    copy.write_text(json.dumps(entries))
    return copy


def test_frames_and_tokens_are_those_of_the_video(
    made: GeneratedSet, evaluation: PreparedDataset
) -> None:
    entries = load_manifest(made.eval_manifest)
    assert [row.id for row in evaluation.rows] == [entry.id for entry in entries]
    entry, row = entries[7], evaluation.rows[7]
    expected = np.stack(list(read_frames(made.folder / entry.video, range(16), size=64)))
    np.testing.assert_array_equal(evaluation.frames(row.video), expected)
    message = "\nThe video lasts for 2.00 seconds, and 16 frames are uniformly sampled from it. "
    input_ids, labels = prompts.training_example(TOKENIZER, entry.conversations, message)
    assert row.tokens.input_ids.tolist() == input_ids
    assert row.tokens.labels.tolist() == labels
    assert row.tokens.prompt_ids.tolist() == prompts.inference_ids(
        TOKENIZER, entry.question, message
    )
    assert TOKENIZER.decode(row.tokens.answer_ids) == entry.answer == row.answer
    assert (row.kind, row.options) == (entry.kind, entry.options)


def test_rules_answer_every_question_from_the_batches(evaluation: PreparedDataset) -> None:
    """Each question travels with its own video, through files, records and batches."""
    right, asked = 0, 0
    for batch in eval_batches(evaluation, batch_size=16):
        counts = zip(batch["index"], batch["frames"], batch["example_weight"], strict=True)
        for index, frames, weight in counts:
            row = evaluation.rows[index]
            right += int(weight) * (solve(frames)[row.kind] == row.answer)
            asked += int(weight)
    assert asked == len(evaluation) == 16 * 4 + 12
    assert right / asked > 0.95


def test_second_call_decodes_nothing(
    made: GeneratedSet, evaluation: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "read_sampled_video", None)
    again = prepare(made.eval_manifest, evaluation.folder.parent, **SETTINGS)
    assert again.folder == evaluation.folder
    assert contents(again) == contents(evaluation)


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": SamplingConfig(fps=4, min_frames=8, max_frames=8)},
        {"image_size": 32},
        {"clip_frames": 8},
        {"max_text_tokens": 191},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_setting_is_another_folder(
    made: GeneratedSet, evaluation: PreparedDataset, change: dict[str, Any]
) -> None:
    other = prepare(made.eval_manifest, evaluation.folder.parent, **(SETTINGS | change))
    assert other.folder != evaluation.folder
    size = change.get("image_size", 64)
    count = 8 if "sampling" in change else 16
    assert other.frames(0).shape == (count, size, size, 3)


def test_another_tokenizer_or_manifest_is_another_folder(
    made: GeneratedSet, evaluation: PreparedDataset
) -> None:
    root = evaluation.folder.parent
    tokenizer = load_tokenizer(None)
    tokenizer.add_tokens(["brandnew"])
    other = prepare(made.eval_manifest, root, **(SETTINGS | {"tokenizer": tokenizer}))
    assert other.folder != evaluation.folder
    manifest = edited(made.eval_manifest, rows={0: {"id": "renamed"}})
    renamed = prepare(manifest, root, **SETTINGS)
    assert renamed.fingerprint not in (evaluation.fingerprint, other.fingerprint)
    assert renamed.rows[0].id == "renamed"


def test_other_images_in_a_folder_are_another_folder(made: GeneratedSet, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    entry = json.loads(made.train_manifest.read_text())[0] | {"video": "images"}
    (tmp_path / "m.json").write_text(json.dumps([entry]))
    sampling = SamplingConfig(fps=1, min_frames=4, max_frames=16)
    frames = []
    for count in (8, 8, 16):
        for i in range(count):
            Image.new("RGB", (8, 8)).save(images / f"{i}.png")
        dataset = prepare(
            tmp_path / "m.json", tmp_path / "out", **(SETTINGS | {"sampling": sampling})
        )
        frames.append(len(dataset.frames(0)))
    assert frames == [8, 8, 16]
    assert len(list((tmp_path / "out").glob("m-*"))) == 2


def test_all_problems_are_reported_together(made: GeneratedSet, tmp_path: Path) -> None:
    whole = (made.folder / load_manifest(made.train_manifest)[0].video).read_bytes()
    (made.folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (made.folder / "text.mp4").write_text("no video")
    wordy = [{"from": "human", "value": "<image>\n" + "ha " * 200}]
    manifest = edited(
        made.train_manifest,
        rows={
            0: {"video": "cut.mp4"},
            7: {"video": "nowhere.mp4"},
            12: {"video": "text.mp4"},
            20: {"id": "wordy", "conversations": [*wordy, {"from": "gpt", "value": "ha"}]},
        },
    )
    with pytest.raises(PrepareError) as caught:
        prepare(manifest, tmp_path, **SETTINGS)
    message = str(caught.value)
    for reason in (
        "4 problems",
        "cut.mp4: ",
        "nowhere.mp4: no such file",
        "text.mp4: ",
        "row 'wordy': ",
        "text tokens, but data.max_text_tokens=192",
    ):
        assert reason in message, message
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".lock"], "something is left"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "at least one entry"),
        ('[{"id": 1}]', "entry 0: needs a 'video'"),
        ('[{"video": "a.mp4", "conversations": [{"from": "gpt", "value": "x"}]}]', "alternate"),
        ('[{"video": "a.mp4", "conversations": "x"}]', "needs a list of 'conversations'"),
    ],
)
def test_an_unreadable_manifest_says_where(tmp_path: Path, entries: str, reason: str) -> None:
    (tmp_path / "m.json").write_text(entries)
    with pytest.raises(ManifestError, match=reason):
        load_manifest(tmp_path / "m.json")


def test_a_plain_llava_manifest_needs_no_kind(made: GeneratedSet, tmp_path: Path) -> None:
    first = load_manifest(made.train_manifest)[0]
    turns = [
        {"from": "gpt", "value": "A reply before any question is dropped."},
        {"from": "human", "value": "What is it?\n<image>"},
        {"from": "gpt", "value": "A shape."},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes."},
    ]
    entries = [{"video": first.video, "conversations": turns}]
    (tmp_path / "plain.json").write_text(json.dumps(entries))
    dataset = prepare(
        tmp_path / "plain.json", tmp_path / "out", video_folder=made.folder, **SETTINGS
    )
    (row,) = dataset.rows
    assert (row.id, row.question, row.answer) == ("0", "What is it?", "A shape.")
    assert (row.kind, row.options) == ("", ())
    text = TOKENIZER.decode([i for i in row.tokens.input_ids if i != prompts.VIDEO_PLACEHOLDER])
    assert "dropped" not in text
    assert "Yes." in text


def test_record_files_are_bounded_and_plain_tfds(
    made: GeneratedSet,
    evaluation: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepared, "TARGET_FILE_BYTES", 5 * 16 * 64 * 64 * 3)
    many = prepare(made.eval_manifest, tmp_path, **SETTINGS)
    assert len(list((many.folder / "videos").glob("*.array_record-*-of-00004"))) == 4
    assert contents(many) == contents(evaluation)
    builder = tfds.builder_from_directory(many.folder / "videos")
    assert builder.info.splits["records"].num_examples == 16
    assert builder.info.splits["records"].shard_lengths == [5, 5, 5, 1]
    assert "tensorflow" not in sys.modules


def test_two_builders_at_once_build_once(
    made: GeneratedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    read_sampled_video = prepared.read_sampled_video

    def counting(path: Path, **how: Any) -> Any:
        decoded.append(path)
        return read_sampled_video(path, **how)

    monkeypatch.setattr(prepared, "read_sampled_video", counting)
    done: list[PreparedDataset] = []

    def build() -> None:
        done.append(prepare(made.train_manifest, tmp_path, **SETTINGS))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == len(set(decoded)) == 8
    assert contents(done[0]) == contents(done[1])


BUILD = """
import sys
from pathlib import Path
from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.prepared.prepare import prepare
from xcomp_jax.text.tokenizer import load_tokenizer
prepare(Path(sys.argv[1]), Path(sys.argv[2]), sampling=SamplingConfig(fps=8, min_frames=16,
        max_frames=16), image_size=64, clip_frames=4, tokenizer=load_tokenizer(None),
        max_text_tokens=192, progress=False)
"""


def test_killed_build_leaves_nothing_valid_and_the_next_is_whole(
    made: GeneratedSet, evaluation: PreparedDataset, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(made.eval_manifest), str(tmp_path)]
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".*.partial/videos/*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.1)  # some videos are in, not all
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".*.partial")), "killed too late to show anything"
    assert not list(tmp_path.rglob(SUMMARY_FILE))

    assert contents(prepare(made.eval_manifest, tmp_path, **SETTINGS)) == contents(evaluation)
    assert not list(tmp_path.glob(".*.partial"))


def test_prompt_as_asked_trains_on_what_is_asked(made: GeneratedSet, tmp_path: Path) -> None:
    """The original's extra newline is there by default and gone on request."""
    for as_asked in (False, True):
        dataset = prepare(made.eval_manifest, tmp_path, **SETTINGS, prompt_as_asked=as_asked)
        for row in dataset.rows[:8]:
            asked, trained = row.tokens.prompt_ids.tolist(), row.tokens.input_ids.tolist()
            assert (trained[: len(asked)] == asked) == as_asked
