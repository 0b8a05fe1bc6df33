"""Tests that a resumed run notices changed input files, cheaply and by name."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from tests.training.tiny_experiment import EXPERIMENT
from xcomp_jax.config import ConfigError, DataConfig
from xcomp_jax.data.synthetic.generate import GeneratedSet, generate
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training import inputs
from xcomp_jax.training.inputs import BLOCK_BYTES, check_inputs
from xcomp_jax.training.sources import open_datasets


def replace_by_equal_length(path: Path, position: int) -> None:
    """Writes another file of the same length and times in place of `path`."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture(name="files")
def files_fixture(tmp_path: Path) -> list[Path]:
    """Returns a small file, one of 20 blocks, an empty one, and a folder of images."""
    sizes = {"a.mp4": 1000, "long.mp4": 20 * BLOCK_BYTES, "empty.mp4": 0}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(os.urandom(100))
    return [*(tmp_path / name for name in sizes), folder]


@pytest.mark.parametrize(
    ("name", "position"), [("a.mp4", 500), ("long.mp4", 0), ("long.mp4", -1), ("frames/1.png", 7)]
)
def test_check_inputs_equal_length_replacement_raises(
    files: list[Path], tmp_path: Path, name: str, position: int
) -> None:
    record = tmp_path / "run" / "inputs.jsonl"
    check_inputs(record, files)
    before = record.read_text()
    replace_by_equal_length(tmp_path / name, position)
    recorded = tmp_path / name.partition("/")[0]
    with pytest.raises(ConfigError, match=rf"^1 of the 4 inputs .* started: {recorded}\. Restore"):
        check_inputs(record, files)
    assert record.read_text() == before


def test_check_inputs_copied_files_are_accepted(files: list[Path], tmp_path: Path) -> None:
    record = tmp_path / "inputs.jsonl"
    check_inputs(record, files)
    before = record.read_text()
    for path in files:
        if path.is_file():
            path.write_bytes(path.read_bytes())
    check_inputs(record, files)
    assert record.read_text() != before, "control: the new times are recorded"


def test_check_inputs_unchanged_files_are_not_read(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_inputs(tmp_path / "inputs.jsonl", files)
    monkeypatch.setattr(inputs, "_content", None)  # any read would call it
    check_inputs(tmp_path / "inputs.jsonl", files)


def test_check_inputs_damaged_record_raises(files: list[Path], tmp_path: Path) -> None:
    record = tmp_path / "inputs.jsonl"
    check_inputs(record, files)
    record.write_text(record.read_text()[:-20])
    with pytest.raises(ValueError, match=r"inputs\.jsonl is damaged .* delete it if"):
        check_inputs(record, files)


@pytest.fixture(scope="module", name="generated")
def generated_fixture(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSet:
    return generate(
        tmp_path_factory.mktemp("generated"),
        seed=0,
        num_train_videos=4,
        num_eval_videos=2,
        kinds=("color", "direction"),
        progress=False,
    )


@pytest.mark.parametrize("source", ["manifest", "mixture"])
def test_open_datasets_replaced_video_raises_with_its_name(
    generated: GeneratedSet, tmp_path: Path, source: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(generated.train_manifest.parent, folder)
    manifest = folder / generated.train_manifest.name
    if source == "manifest":
        data = DataConfig(source="prepared", train=str(manifest))
    else:
        (folder / "mixture.yaml").write_text(
            f"datasets: [{{json_path: {manifest.name}, data_root: {generated.folder.name}}}]"
            if generated.folder != generated.train_manifest.parent
            else f"datasets: [{{json_path: {manifest.name}}}]"
        )
        mixture = dataclasses.replace(
            EXPERIMENT.data.mixture, path=str(folder / "mixture.yaml"), root=str(folder)
        )
        data = DataConfig(source="mixture", mixture=mixture)
    config = dataclasses.replace(EXPERIMENT, data=data)

    def open_again() -> None:
        open_datasets(config, tmp_path / "run", load_tokenizer(None), progress=False)

    open_again()
    open_again()
    video = sorted(folder.rglob("*.mp4"))[0]
    replace_by_equal_length(video, video.stat().st_size // 2)
    with pytest.raises(ConfigError, match=f"inputs of this run have changed .*{video.name}"):
        open_again()
