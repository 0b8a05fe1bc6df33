"""`xcomp scan`: table, summary, exit codes, and resumption after a kill."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.data.mixture.example_mixture import conversation, write_mixture
from xcomp_jax.cli.main import main
from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture import scan as scan_module
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.video.probe import VideoInfo

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


def command(config: MixtureConfig, *extra: str) -> list[str]:
    experiment = str(Path(config.root) / "experiment.py")
    options = ["--root", config.root, "--config", experiment, "--workers", "2", "--quiet"]
    return ["scan", config.path, *options, *extra]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scan_writes_table_and_summary(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(config)) == 0
    out = capsys.readouterr().out
    table = rows(tmp_path / "mixture.scan.csv")
    assert len(table) == 13, "13 samples with distinct media"
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
    assert (
        "3 of 13 samples are bad, a share of 0.2308, more than --max-bad 0.2;"
        in capsys.readouterr().err
    )


def test_scan_after_a_kill_probes_only_new_and_bad_files(
    config: MixtureConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[str] = []
    probe = scan_module.probe_media

    def counted(media: Media, root: Path) -> VideoInfo:
        probed.append(media.path)
        return probe(media, root)

    monkeypatch.setattr(scan_module, "probe_media", counted)
    out = tmp_path / "mixture.scan.csv"
    assert main(command(config)) == 0
    assert Counter(probed)["media/v1.mp4"] == 1, "once for all cuts of the file"
    assert len(probed) == 11, "all but the missing file"
    complete = out.read_bytes()

    # A kill in the middle of a row, and a repaired file.
    lines = complete.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    valid = {row["path"] for row in rows(out)[:5] if row["status"] in ("ok", "too short")}
    os.replace(tmp_path / "media" / "i0.png", tmp_path / "media" / "none.png")
    probed.clear()
    assert main(command(config)) == 0
    assert not valid & set(probed)
    assert "media/none.png" in probed
    statuses = {row["path"]: row["status"] for row in rows(out)}
    assert statuses["media/none.png"] == "ok"
    assert statuses["media/i0.png"] == "missing"
    assert len(rows(out)) == 13


def test_scan_changed_image_folder_is_probed_again(config: MixtureConfig, tmp_path: Path) -> None:
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
    for infinite in ("1e400", "1" + "0" * 400):
        sidecar.write_text(f'{{"duration": {infinite}}}')
        assert scanned() == ("unreadable", "0", "0.0")
    sidecar.write_text('{"duration": 50}')
    assert scanned() == ("ok", "17", "50.0")
    for file in folder.iterdir():
        file.unlink()
    assert scanned() == ("unreadable", "0", "0.0")


def test_scan_invalid_paths_are_unreadable_files(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "media" / "empty.png").touch()
    invalid = {
        "image": {"empty.png": "the file is empty", "folder": "is a folder", "l" * 300: "too long"},
        "video": {"a\0b.mp4": "not a path", "l" * 300: "too long"},
    }
    for kind, names in invalid.items():
        file = tmp_path / f"{kind}s.json"
        samples = [{kind: name, "conversations": conversation("What?")} for name in names]
        file.write_text(json.dumps(json.loads(file.read_text()) + samples))
    for _ in range(2):
        assert main(command(config, "--max-bad", "0.5")) == 0
        table = rows(tmp_path / "mixture.scan.csv")
        assert len(table) == 13 + 5
        by_file = {(row["kind"], row["path"].removeprefix("media/")): row for row in table}
        for kind, names in invalid.items():
            for name, reason in names.items():
                assert by_file[kind, name]["status"] == "unreadable"
                assert reason in by_file[kind, name]["reason"]
    capsys.readouterr()
    line = {"video": "\ud800.mp4", "conversations": conversation("What?")}
    (tmp_path / "gifs.jsonl").write_text(json.dumps(line))
    assert main(command(config)) == 2
    error = capsys.readouterr().err
    assert r"'gifs.jsonl' are bad" in error
    assert r"video='\ud800.mp4' is not valid Unicode" in error


@pytest.mark.parametrize("name", ["mixture.yaml", "videos.json", "media/v1.mp4", "damaged.csv"])
def test_scan_output_that_is_no_table_is_not_replaced(
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


def test_scan_invalid_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: MixtureConfig
) -> None:
    assert main(["scan", str(tmp_path / "nothing.yaml")]) == 2
    assert "nothing.yaml: no such file; check the path" in capsys.readouterr().err
    assert main(["scan", config.path, "--set", "seed=1"]) == 2
    assert "--set seed=1 needs --config FILE" in capsys.readouterr().err
    for share in ("-1", "nan"):
        with pytest.raises(SystemExit):
            main(command(config, "--max-bad", share))
        assert f"--max-bad {share} is not a number of at least 0" in capsys.readouterr().err
