"""Replacing folders: only what the same command wrote, never a source, complete at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xcomp_jax.checkpoint import (
    FROM_TORCH,
    SAVE,
    TUNE,
    CheckpointError,
    Writer,
    check_free,
    new_folder,
)
from xcomp_jax.checkpoint.draft import _exchange, _give_name
from xcomp_jax.checkpoint.ownership import MARKER


def create(folder: Path, writer: Writer = FROM_TORCH, text: str = "old") -> Path:
    with new_folder(folder, writer, overwrite=True) as draft:
        (draft / "config.json").write_text(text)
        (draft / "params").mkdir()
        (draft / "params" / "w").write_text("values")
    return folder


def refusal(folder: Path, writer: Writer = FROM_TORCH, sources: tuple[Path, ...] = ()) -> str:
    """Returns the message of a refused replacement and checks that nothing changed."""
    before = sorted((path, path.lstat().st_mtime_ns) for path in folder.parent.rglob("*"))
    with pytest.raises(CheckpointError) as caught:
        check_free(folder, writer, overwrite=True, sources=sources)
    assert before == sorted((path, path.lstat().st_mtime_ns) for path in folder.parent.rglob("*"))
    return str(caught.value)


def test_overwrite_other_commands_folder_is_refused(tmp_path: Path) -> None:
    message = refusal(create(tmp_path / "out", TUNE), SAVE)
    assert "`xcomp tune` wrote it and not `save_pretrained`" in message


@pytest.mark.parametrize("marker", [None, "", "[]", "{}", '{"written_by": 1, "files": 2}'])
def test_overwrite_unmarked_folder_is_refused(tmp_path: Path, marker: str | None) -> None:
    """Any folder with a config.json: an original checkpoint, a workdir, an older version's."""
    out = create(tmp_path / "out")
    (out / MARKER).unlink()
    if marker is not None:
        (out / MARKER).write_text(marker)
    assert f"no {MARKER} shows that `xcomp convert from-torch` wrote it" in refusal(out)


@pytest.mark.parametrize("name", ["notes.txt", "params/notes.txt", "config.json", ".hidden"])
def test_overwrite_added_or_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    out = create(tmp_path / "out")
    (out / name).write_text("mine")
    assert f"added or changed since `xcomp convert from-torch` wrote it: {name};" in refusal(out)


def test_overwrite_many_added_files_names_ten(tmp_path: Path) -> None:
    out = create(tmp_path / "out")
    for number in range(14):
        (out / f"{number:02d}.txt").write_text("mine")
    assert "09.txt and 4 more" in refusal(out)


def test_overwrite_own_folder_replaces_it(tmp_path: Path) -> None:
    """Control for the refusals above."""
    out = create(tmp_path / "out")
    create(out, text="new")
    assert (out / "config.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((out / MARKER).read_text())["written_by"] == "xcomp convert from-torch"


@pytest.mark.parametrize(
    ("out", "relation"),
    [("a/source", "is"), ("a", "contains"), ("a/source/out", "lies inside"), ("link", "is"),
     ("link/out", "lies inside"), ("a/source/../source", "is"), ("elsewhere", "contains")],
)  # fmt: skip
def test_target_overlapping_source_is_refused(tmp_path: Path, out: str, relation: str) -> None:
    source, elsewhere = tmp_path / "a" / "source", create(tmp_path / "elsewhere")
    create(source)
    (source / "linked").symlink_to(elsewhere / "config.json")
    (tmp_path / "link").symlink_to(source)
    message = refusal(tmp_path / out, sources=(source,))
    assert f"{relation} the source" in message
    check_free(tmp_path / "a" / "out", FROM_TORCH, overwrite=True, sources=[source])


def test_target_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(create(tmp_path / "disk" / "out"))
    create(tmp_path / "link", text="new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "out" / "config.json").read_text() == "new"


def test_target_appearing_meanwhile_is_kept(tmp_path: Path) -> None:
    block = new_folder(tmp_path / "out", TUNE)
    (block.__enter__() / "x").write_text("x")
    create(tmp_path / "out")
    with pytest.raises(CheckpointError, match="exists already; choose another name"):
        block.__exit__(None, None, None)
    assert (tmp_path / "out" / "config.json").read_text() == "old"


def test_existing_target_advice_names_option(tmp_path: Path) -> None:
    out = create(tmp_path / "out")
    for writer, advice in ((FROM_TORCH, "with --force"), (SAVE, "with overwrite=True")):
        with pytest.raises(CheckpointError, match=advice):
            check_free(out, writer, overwrite=False)


def test_draft_of_running_process_is_kept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out", SAVE, overwrite=True) as draft:
        (draft / "config.json").write_text("last")
        create(tmp_path / "out", SAVE)
        assert draft.is_dir()
    assert (tmp_path / "out" / "config.json").read_text() == "last"


def test_draft_of_unknown_origin_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, lock in enumerate([None, "", "another machine"]):
        draft = tmp_path / f".out.partial-0000000{number}"
        draft.mkdir()
        if lock is not None:
            draft.with_name(draft.name + ".lock").write_text(lock)
    create(tmp_path / "out")
    for number in range(3):
        assert (tmp_path / f".out.partial-0000000{number}").is_dir()
        assert f".out.partial-0000000{number}: left by another run" in caplog.text


def test_exchange_unavailable_keeps_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = create(tmp_path / "out"), create(tmp_path / "new", text="new")
    monkeypatch.setattr("xcomp_jax.checkpoint.draft._exchange", lambda a, b: False)
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise OSError("disk")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk"):
        _give_name(new, old)
    assert (old / "config.json").read_text() == "old"
    monkeypatch.setattr(Path, "rename", rename)
    _give_name(new, old)
    assert (old / "config.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_exchange_swaps_folders(tmp_path: Path) -> None:
    a, b = create(tmp_path / "a", text="a"), create(tmp_path / "b", text="b")
    if not _exchange(a, b):
        pytest.skip("this system cannot swap two folders atomically")
    assert (a / "config.json").read_text() == "b"
    assert not _exchange(a, tmp_path / "missing")


def test_killed_writer_leaves_complete_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.checkpoint.kill_writer", str(tmp_path)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 30
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
