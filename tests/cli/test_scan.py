"""`xcomp scan`: every file once, a table with reasons, an exit code, going on after a kill."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.data.handmade_mixture import write_mixture
from xcomp_jax.cli.main import main
from xcomp_jax.config import MixtureConfig
from xcomp_jax.data import scan as scan_module

EXPERIMENT = """
from ml_collections import ConfigDict
import configs.smoke as smoke

def get_config():
    config = smoke.get_config()
    config.sampling = ConfigDict(dict(fps=8, min_frames=4, max_frames=16))
    config.data.mixture.max_bad = 0.3
    return config
"""


@pytest.fixture
def config(tmp_path: Path) -> MixtureConfig:
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    return write_mixture(tmp_path)


def command(config: MixtureConfig, *more: str) -> list[str]:
    experiment = str(Path(config.root) / "experiment.py")
    given = ["--root", config.root, "--config", experiment, "--workers", "2", "--quiet"]
    return ["scan", config.path, *given, *more]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_of_what_is_there(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(config)) == 0
    out = capsys.readouterr().out
    table = rows(tmp_path / "mixture.scan.csv")
    assert len(table) == 13, "thirteen samples, no two of the same cut"
    by_path = {row["path"]: row for row in table}
    assert {path: row["status"] for path, row in by_path.items() if row["status"] != "ok"} == {
        "media/broken.mp4": "unreadable",
        "media/none.png": "missing",
        "media/short.mp4": "too short",
    }
    assert "no such file" in by_path["media/none.png"]["reason"]
    assert "0 frames were sampled" in by_path["media/short.mp4"]["reason"]
    assert by_path["media/v2.mp4"]["frames"] == "16"
    assert by_path["media/v2.mp4"]["file_frames"] == "20"
    assert by_path["media/folder"]["frames"] == "8"
    assert "10 files, 10 samples" in out
    assert main(command(config, "--max-bad", "0.2")) == 1
    assert "23.08% of 13 samples" in capsys.readouterr().err


def test_going_on_looks_only_at_what_is_new_or_was_bad(
    config: MixtureConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    probe = scan_module.probe_media

    def counted(media, root):  # type: ignore[no-untyped-def]
        looked.append(media.path)
        return probe(media, root)

    monkeypatch.setattr(scan_module, "probe_media", counted)
    out = tmp_path / "mixture.scan.csv"
    assert main(command(config)) == 0
    assert Counter(looked)["media/v1.mp4"] == 1, "once, though it is cut in two ways"
    assert len(looked) == 11, "all but the one that is not there"
    whole = out.read_bytes()

    # As after a kill amid a row, and a repair.
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    good = {row["path"] for row in rows(out)[:5] if row["status"] in ("ok", "too short")}
    os.replace(tmp_path / "media" / "i0.png", tmp_path / "media" / "none.png")
    looked.clear()
    assert main(command(config)) == 0
    assert not good & set(looked)
    assert "media/none.png" in looked
    again = {row["path"]: row["status"] for row in rows(out)}
    assert again["media/none.png"] == "ok"
    assert again["media/i0.png"] == "missing"
    assert len(rows(out)) == 13


def test_what_cannot_be_scanned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: MixtureConfig
) -> None:
    assert main(["scan", str(tmp_path / "nothing.yaml")]) == 2
    assert "nothing.yaml cannot be read" in capsys.readouterr().err
    assert main(["scan", config.path, "--set", "seed=1"]) == 2
    assert "--config FILE" in capsys.readouterr().err
