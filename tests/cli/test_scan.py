"""`xcomp scan`: every file once, a table with reasons, an exit code, going on after a kill."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.data.handmade_mixture import conversation, write_mixture
from xcomp_jax.cli.main import main
from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture import scan as scan_module

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


def test_a_folder_is_looked_at_again_when_its_images_or_its_duration_change(
    config: MixtureConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "media" / "folder"
    sidecar = folder.with_suffix(".json")

    def scanned() -> tuple[str, str, str]:
        main(command(config))
        (row,) = (r for r in rows(tmp_path / "mixture.scan.csv") if r["path"] == "media/folder")
        return row["status"], row["file_frames"], row["seconds"]

    assert scanned() == ("ok", "9", "9.0")
    for i in range(9, 17):
        Image.new("RGB", (8, 8)).save(folder / f"f_{i}.png")
    assert scanned() == ("ok", "17", "17.0")
    sidecar.write_text('{"duration": 40}')
    assert scanned() == ("ok", "17", "40.0")
    for endless in ("1e400", "1" + "0" * 400):
        sidecar.write_text(f'{{"duration": {endless}}}')
        assert scanned() == ("unreadable", "0", "0.0")
    sidecar.write_text('{"duration": 50}')
    assert scanned() == ("ok", "17", "50.0")
    for file in folder.iterdir():
        file.unlink()
    assert scanned() == ("unreadable", "0", "0.0")


def test_odd_paths_are_bad_samples_among_good_ones(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "media" / "empty.png").touch()
    odd = {
        "image": {"empty.png": "the file is empty", "folder": "is a folder", "l" * 300: "too long"},
        "video": {"a\0b.mp4": "not a path", "l" * 300: "too long"},
    }
    for kind, names in odd.items():
        file = tmp_path / f"{kind}s.json"
        more = [{kind: name, "conversations": conversation("What?")} for name in names]
        file.write_text(json.dumps(json.loads(file.read_text()) + more))
    for _ in range(2):
        assert main(command(config, "--max-bad", "0.5")) == 0
        table = rows(tmp_path / "mixture.scan.csv")
        assert len(table) == 13 + 5
        found = {(row["kind"], row["path"].removeprefix("media/")): row for row in table}
        for kind, names in odd.items():
            for name, reason in names.items():
                assert found[kind, name]["status"] == "unreadable"
                assert reason in found[kind, name]["reason"]
    capsys.readouterr()
    line = {"video": "\ud800.mp4", "conversations": conversation("What?")}
    (tmp_path / "gifs.jsonl").write_text(json.dumps(line))
    assert main(command(config)) == 2
    assert r"'media/\ud800.mp4' of a sample is no path" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mixture.yaml", "videos.json", "media/v1.mp4", "damaged.csv"])
def test_what_is_no_table_is_not_replaced(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / name
    if name == "damaged.csv":
        assert main(command(config, "--out", str(file))) == 0
        file.write_text(file.read_text() + '"' + "x" * 2**18)
    before = file.read_bytes()
    assert main(command(config, "--out", str(file))) == 2
    assert file.read_bytes() == before
    assert str(file) in capsys.readouterr().err


def test_what_cannot_be_scanned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: MixtureConfig
) -> None:
    assert main(["scan", str(tmp_path / "nothing.yaml")]) == 2
    assert "nothing.yaml cannot be read" in capsys.readouterr().err
    assert main(["scan", config.path, "--set", "seed=1"]) == 2
    assert "--config FILE" in capsys.readouterr().err
    for share in ("-1", "nan"):
        assert main(command(config, "--max-bad", share)) == 2
        assert f"--max-bad {share} must lie in [0, 1]" in capsys.readouterr().err
