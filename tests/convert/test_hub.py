"""Hub ids: the local cache is enough, and without it the message says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.convert import torch_model
from xcomp_jax.convert import hub
from xcomp_jax.convert.errors import ConversionError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own: the hub's settings are read at import."""
    return subprocess.run(
        [sys.executable, "-m", "convert", "from_torch", *arguments],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )


def test_offline_cache_is_honoured(tmp_path: Path) -> None:
    repository = tmp_path / "home" / "hub" / "models--owner--name"
    torch_model.make(repository / "snapshots" / COMMIT)
    done = run(tmp_path / "home", "owner/name", str(tmp_path / "out"), "--revision", COMMIT)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"`owner/name` at commit `{COMMIT}`" in card


def test_offline_without_the_cache(tmp_path: Path) -> None:
    done = run(tmp_path / "home", "owner/name", str(tmp_path / "out"), "--revision", COMMIT)
    assert done.returncode == 1
    assert (
        f"owner/name: 1 problem\n  - commit {COMMIT} is not in the local hub cache and the hub is "
        "out of reach: download it where there is a connection, or give a local folder"
    ) in done.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_but_data_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    source = hub.find_source("owner/name", COMMIT)
    assert (source.folder, source.name, source.revision) == (tmp_path, "owner/name", COMMIT)
    assert asked["revision"] == COMMIT
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert not [p for p in patterns if p.endswith((".py", ".bin", ".pt", "*"))]


def test_revision_of_a_folder_makes_no_sense(source: Path) -> None:
    with pytest.raises(ConversionError, match="goes with a hub id, not a folder"):
        hub.find_source(str(source), COMMIT)


def test_a_folder_is_preferred_to_a_hub_id(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source.parent / "owner").mkdir()
    source.rename(source.parent / "owner" / "name")
    monkeypatch.chdir(source.parent)
    assert hub.find_source("owner/name").revision is None
