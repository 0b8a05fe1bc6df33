"""Preparing: frames and questions that belong together, reuse, error reports, killed builds."""

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

from tests.data.synthetic.rule_solver import solve
from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.pipeline import eval_batches
from xcomp_jax.data.prepared import build, sampled_video
from xcomp_jax.data.prepared.build import PrepareError
from xcomp_jax.data.prepared.dataset import SUMMARY_FILE, PreparedDataset
from xcomp_jax.data.prepared.manifest import load_manifest
from xcomp_jax.data.prepared.prepare import prepare
from xcomp_jax.data.prepared.sampled_video import SampledVideo, VideoView
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
def generated(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSet:
    folder = tmp_path_factory.mktemp("generated")
    return generate(folder, seed=3, num_train_videos=8, num_eval_videos=16, progress=False)


@pytest.fixture(scope="module")
def evaluation(
    generated: GeneratedSet, tmp_path_factory: pytest.TempPathFactory
) -> PreparedDataset:
    return prepare(generated.eval_manifest, tmp_path_factory.mktemp("prepared"), **SETTINGS)


def contents(dataset: PreparedDataset) -> list[Any]:
    """Returns everything that a dataset holds, for comparison."""
    frames = [dataset.frames(i).tobytes() for i in range(dataset.num_videos)]
    rows = [(row.id, row.answer, row.tokens.input_ids.tobytes()) for row in dataset.rows]
    return [dataset.fingerprint, dataset.max_frames, frames, rows]


def edited(manifest: Path, updates: dict[int, dict[str, Any]]) -> Path:
    """Writes a copy next to `manifest` with some entries updated, by number."""
    entries = json.loads(manifest.read_text())
    for number, update in updates.items():
        entries[number] |= update
    copy = manifest.with_name(f"edited-{time.monotonic_ns()}.json")
    copy.write_text(json.dumps(entries))
    return copy


def test_prepare_row_holds_frames_and_tokens_of_its_entry(
    generated: GeneratedSet, evaluation: PreparedDataset
) -> None:
    entries = load_manifest(generated.eval_manifest)
    assert [row.id for row in evaluation.rows] == [entry.id for entry in entries]
    entry, row = entries[7], evaluation.rows[7]
    expected = np.stack(list(read_frames(generated.folder / entry.video, range(16), size=64)))
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


def test_eval_batches_pair_every_question_with_its_video(evaluation: PreparedDataset) -> None:
    """The rule-based solver answers from the batches, after files and records."""
    correct, total = 0, 0
    for batch in eval_batches(evaluation, batch_size=16):
        fields = zip(batch["index"], batch["frames"], batch["example_weight"], strict=True)
        for index, frames, weight in fields:
            row = evaluation.rows[index]
            correct += int(weight) * (solve(frames)[row.kind] == row.answer)
            total += int(weight)
    assert total == len(evaluation) == 16 * 4 + 12
    assert correct / total > 0.95


def test_prepare_second_call_decodes_nothing(
    generated: GeneratedSet, evaluation: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled_video, "read_sampled_video", None)
    repeated = prepare(generated.eval_manifest, evaluation.folder.parent, **SETTINGS)
    assert repeated.folder == evaluation.folder
    assert contents(repeated) == contents(evaluation)


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
def test_prepare_other_setting_gives_another_folder(
    generated: GeneratedSet, evaluation: PreparedDataset, change: dict[str, Any]
) -> None:
    other = prepare(generated.eval_manifest, evaluation.folder.parent, **(SETTINGS | change))
    assert other.folder != evaluation.folder
    size = change.get("image_size", 64)
    count = 8 if "sampling" in change else 16
    assert other.frames(0).shape == (count, size, size, 3)


def test_prepare_other_tokenizer_or_text_gives_another_folder(
    generated: GeneratedSet, evaluation: PreparedDataset
) -> None:
    root = evaluation.folder.parent
    tokenizer = load_tokenizer(None)
    tokenizer.add_tokens(["brandnew"])
    other = prepare(generated.eval_manifest, root, **(SETTINGS | {"tokenizer": tokenizer}))
    assert other.folder != evaluation.folder
    manifest = edited(generated.eval_manifest, {0: {"id": "renamed"}})
    renamed = prepare(manifest, root, **SETTINGS)
    assert renamed.fingerprint not in (evaluation.fingerprint, other.fingerprint)
    assert renamed.rows[0].id == "renamed"


def test_prepare_changed_image_folder_gives_another_folder(
    generated: GeneratedSet, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    entry = json.loads(generated.train_manifest.read_text())[0] | {"video": "images"}
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


def test_prepare_unusable_inputs_are_reported_together(
    generated: GeneratedSet, tmp_path: Path
) -> None:
    complete = (generated.folder / load_manifest(generated.train_manifest)[0].video).read_bytes()
    (generated.folder / "cut.mp4").write_bytes(complete[: len(complete) // 2])
    (generated.folder / "text.mp4").write_text("no video")
    question = [{"from": "human", "value": "<image>\n" + "ha " * 200}]
    manifest = edited(
        generated.train_manifest,
        {
            0: {"video": "cut.mp4"},
            7: {"video": "nowhere.mp4"},
            12: {"video": "text.mp4"},
            20: {"id": "long", "conversations": [*question, {"from": "gpt", "value": "ha"}]},
        },
    )
    with pytest.raises(PrepareError) as info:
        prepare(manifest, tmp_path, **SETTINGS)
    message = str(info.value)
    for reason in (
        "4 problems",
        "cut.mp4: ",
        "nowhere.mp4: no such file",
        "text.mp4: ",
        "row 'long' has ",
        "text tokens, more than data.max_text_tokens=192",
    ):
        assert reason in message, message
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".lock"], "files remain"


def test_prepare_plain_llava_manifest_has_empty_kind(
    generated: GeneratedSet, tmp_path: Path
) -> None:
    first = load_manifest(generated.train_manifest)[0]
    turns = [
        {"from": "gpt", "value": "A reply before the first question is dropped."},
        {"from": "human", "value": "What is it?\n<image>"},
        {"from": "gpt", "value": "A shape."},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes."},
    ]
    entries = [{"video": first.video, "conversations": turns}]
    (tmp_path / "plain.json").write_text(json.dumps(entries))
    dataset = prepare(
        tmp_path / "plain.json", tmp_path / "out", video_folder=generated.folder, **SETTINGS
    )
    (row,) = dataset.rows
    assert (row.id, row.question, row.answer) == ("0", "What is it?", "A shape.")
    assert (row.kind, row.options) == ("", ())
    text = TOKENIZER.decode([i for i in row.tokens.input_ids if i != prompts.VIDEO_PLACEHOLDER])
    assert "dropped" not in text
    assert "Yes." in text


def test_prepare_record_files_are_bounded_and_valid_tfds(
    generated: GeneratedSet,
    evaluation: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "TARGET_FILE_BYTES", 5 * 16 * 64 * 64 * 3)
    split = prepare(generated.eval_manifest, tmp_path, **SETTINGS)
    assert len(list((split.folder / "videos").glob("*.array_record-*-of-00004"))) == 4
    assert contents(split) == contents(evaluation)
    builder = tfds.builder_from_directory(split.folder / "videos")
    assert builder.info.splits["records"].num_examples == 16
    assert builder.info.splits["records"].shard_lengths == [5, 5, 5, 1]
    assert "tensorflow" not in sys.modules


def test_prepare_concurrent_calls_build_once(
    generated: GeneratedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    read_sampled_video = sampled_video.read_sampled_video

    def counting(path: Path, view: VideoView) -> SampledVideo:
        decoded.append(path)
        return read_sampled_video(path, view)

    monkeypatch.setattr(sampled_video, "read_sampled_video", counting)
    datasets: list[PreparedDataset] = []

    def run() -> None:
        datasets.append(prepare(generated.train_manifest, tmp_path, **SETTINGS))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == len(set(decoded)) == 8
    assert contents(datasets[0]) == contents(datasets[1])


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


def test_prepare_after_a_kill_rebuilds_completely(
    generated: GeneratedSet, evaluation: PreparedDataset, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(generated.eval_manifest), str(tmp_path)]
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".*.partial/videos/*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.1)  # until some videos are written
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".*.partial")), "killed too late for this test"
    assert not list(tmp_path.rglob(SUMMARY_FILE))

    assert contents(prepare(generated.eval_manifest, tmp_path, **SETTINGS)) == contents(evaluation)
    assert not list(tmp_path.glob(".*.partial"))


def test_prompt_as_asked_trains_on_the_inference_prompt(
    generated: GeneratedSet, tmp_path: Path
) -> None:
    """The default keeps the original's extra newline."""
    for as_asked in (False, True):
        dataset = prepare(generated.eval_manifest, tmp_path, **SETTINGS, prompt_as_asked=as_asked)
        for row in dataset.rows[:8]:
            prompt, trained = row.tokens.prompt_ids.tolist(), row.tokens.input_ids.tolist()
            assert (trained[: len(prompt)] == prompt) == as_asked
