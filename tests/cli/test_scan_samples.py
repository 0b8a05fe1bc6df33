"""`xcomp scan` judges whole samples: the same ones are usable in a scan and in a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.mixture.example_mixture import TOKENIZER, conversation, write_mixture
from xcomp_jax.cli.main import main
from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture.experiment import open_training_mixture
from xcomp_jax.data.mixture.skipped import BadSamplesError
from xcomp_jax.experiment import load_experiment

EXPERIMENT = """
from ml_collections import ConfigDict
import configs.smoke as smoke

def get_config():
    config = smoke.get_config()
    config.sampling = ConfigDict(dict(fps=8, min_frames=4, max_frames=16))
    config.data.max_text_tokens = 192
    config.data.prompt_as_asked = False
    return config
"""

GOOD = conversation("What?")
QUESTION, ANSWER = GOOD
ROWS: dict[str, dict[str, Any]] = {
    "good": {"video": "v0.mp4", "conversations": GOOD},
    "clock": {"video": "v2.mp4", "conversations": GOOD, "start": "00:00:00.5", "end": "00:00:02"},
    "swift": {
        "videos": ["v1.mp4"],
        "messages": [
            {"role": "user", "content": "<video>What?"},
            {"role": "assistant", "content": "red"},
        ],
    },
    "again": {"video": "v1.mp4", "conversations": GOOD},
    "text only": {"conversations": [{"from": "human", "value": "Hi?"}, ANSWER]},
    "several": {"image": ["i0.png", "i1.png"], "conversations": GOOD},
    "no answer": {"video": "v0.mp4", "conversations": [QUESTION]},
    "no mark": {"video": "v0.mp4", "conversations": [{"from": "human", "value": "Who?"}, ANSWER]},
    "time": {"video": "v0.mp4", "conversations": GOOD, "start": "00:61:00", "end": 3},
    "long": {
        "video": "v0.mp4",
        "conversations": [{"from": "human", "value": "<image>" + "z" * 400}, ANSWER],
    },
    "missing": {"video": "V0.mp4", "conversations": GOOD},
}
USABLE = ("good", "clock", "swift", "again")


@pytest.fixture
def config(tmp_path: Path) -> MixtureConfig:
    """The example mixture with one set of every kind of row; half of its entries are bad."""
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    config = write_mixture(tmp_path)
    write_rows(tmp_path, *ROWS)
    return config


def write_rows(folder: Path, *names: str) -> None:
    """Replaces the mixture by one set of these rows."""
    rows = [{"id": name, **ROWS[name]} for name in names]
    (folder / "videos.json").write_text(json.dumps(rows))
    text = "datasets: [{json_path: videos.json, data_root: media, media_type: video}]"
    (folder / "mixture.yaml").write_text(text)


def command(config: MixtureConfig, *extra: str) -> list[str]:
    experiment = str(Path(config.root) / "experiment.py")
    options = ["--root", config.root, "--config", experiment, "--workers", "2", "--quiet"]
    return ["scan", config.path, *options, *extra]


def test_scan_and_run_agree_on_every_sample(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(config, "--max-bad", "0.9")) == 0
    out = capsys.readouterr().out
    assert "samples: 4 of 9 usable" in out
    for line in (
        "2 bad, invalid conversation: set 'videos.json', entry 6 (id 'no answer'): ",
        "1 bad, invalid entry: set 'videos.json', entry 8 (id 'time'): start='00:61:00'",
        "1 bad, text too long: set 'videos.json', entry 9 (id 'long'): row 'long' has 4",
        "1 bad, bad file: set 'videos.json', entry 10 (id 'missing'): ",
        "1 left out, no image or video",
        "1 left out, several images or videos",
    ):
        assert line in out
    assert re.search(r"missing: '.*media/V0.mp4': .*but '.*media/v0.mp4' exists", out)

    overrides = {"source": "'mixture'", "mixture.path": repr(config.path)}
    overrides |= {"mixture.root": repr(config.root), "mixture.max_bad": "0.9"}
    overrides |= {"mixture.table": repr(str(tmp_path / "mixture.scan.csv")), "held_out": ""}
    settings = [f"data.{name}={value}" for name, value in overrides.items()]
    experiment = load_experiment(tmp_path / "experiment.py", settings)
    dataset = open_training_mixture(experiment, tmp_path, TOKENIZER, progress=False)
    assert {sample.id for sample in dataset.samples} == set(USABLE)
    logged = (tmp_path / "skipped-0.jsonl").read_text().splitlines()
    bad = {row["id"]: row for row in map(json.loads, logged)}
    assert set(bad) == set(ROWS) - {*USABLE, "text only", "several"}
    for name, row in bad.items():
        assert list(ROWS)[row["entry"]] == name
    settings[3] = "data.mixture.max_bad=0.5"
    experiment = load_experiment(tmp_path / "experiment.py", settings)
    with pytest.raises(BadSamplesError, match="5 of 9 samples cannot be used"):
        open_training_mixture(experiment, tmp_path, TOKENIZER, progress=False)


@pytest.mark.parametrize("fault", ["no answer", "no mark", "time"])
def test_scan_set_of_mostly_bad_entries_stops_at_once(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    write_rows(tmp_path, "good", fault, fault)
    assert main(command(config)) == 2
    error = capsys.readouterr().err
    assert "2 of 3 samples of set 'videos.json' are bad, which is most of them" in error
    assert f"; entry 1 (id {fault!r}): " in error
    assert not (tmp_path / "mixture.scan.csv").exists(), "no file was opened"
    write_rows(tmp_path, "good", "again", fault)
    assert main(command(config)) == 1, "control: one bad entry of three"
    assert "1 of 3 samples are bad, a share of 0.3333" in capsys.readouterr().err


def test_scan_set_of_mostly_bad_files_fails(
    config: MixtureConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share of the whole mixture is allowed, but nothing is left of one set."""
    (tmp_path / "other.json").write_text(
        json.dumps([{"id": "lost", "video": "lost.mp4", "conversations": GOOD}])
    )
    write_rows(tmp_path, *USABLE)
    path = tmp_path / "mixture.yaml"
    path.write_text(path.read_text().replace("[{", "[{json_path: other.json}, {"))
    assert main(command(config, "--max-bad", "0.3")) == 1
    captured = capsys.readouterr()
    assert "1 of 1 samples of set 'other.json' are bad" in captured.err
    assert "set 'other.json' has no usable sample" in captured.out


def test_scan_without_tokenizer_checks_all_but_lengths(
    config: MixtureConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--max-bad", "0.9", "--set", "data.tokenizer=/nowhere/tokenizer")
    assert main(command(config, *options)) == 0
    captured = capsys.readouterr()
    assert "the lengths of texts are not checked: tokenizer '/nowhere/tokenizer'" in captured.err
    assert "samples: 5 of 9 usable" in captured.out


def test_scan_output_survives_a_latin_locale(config: MixtureConfig, tmp_path: Path) -> None:
    (tmp_path / "ß漢.json").write_text(json.dumps([{"video": "漢.mp4", "conversations": GOOD}] * 3))
    path = tmp_path / "mixture.yaml"
    path.write_text("datasets: [{json_path: ß漢.json}]", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "xcomp_jax.cli.main", *command(config)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert b"\\u6f22.mp4'" in done.stdout
    assert b"Traceback" not in done.stderr
