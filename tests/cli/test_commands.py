"""Tests output, errors and exit codes of the `xcomp` command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.write_video import write_video
from xcomp_jax.cli.main import main


@pytest.fixture(scope="module", name="cache")
def cache_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns one compilation cache, because most commands compile the same programs."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(name="video")
def video_fixture(tmp_path: Path) -> Path:
    frames = np.empty((16, 64, 64, 3), np.uint8)
    frames[:] = 10 * np.arange(16)[:, None, None, None]
    return write_video(tmp_path / "clip.mp4", frames, fps=8)


@pytest.mark.parametrize("command", [[], ["ask"], ["tune"], ["evaluate"], ["compare"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "examples:\n  xcomp " in capsys.readouterr().out


def test_help_imports_no_jax() -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "xcomp_jax.cli.main", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| jax" not in process.stderr.replace("xcomp_jax", "")


def test_ask_verbose_adds_account_to_one_line(
    video: Path, cache: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ask", str(video), "--frames", "8", "What color is it?", "--max-new-tokens", "4"]
    assert main([*arguments, "--cache-dir", cache]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    warning, line = err.splitlines()
    assert "no --checkpoint, so a toy answers" in warning
    assert re.fullmatch(r"8 frames of 2 s, answered in [0-9.]+ s", line)
    assert main([*arguments, "--cache-dir", cache, "--verbose"]) == 0
    same, err = capsys.readouterr()
    assert same == out
    for word in (
        *("probe", "load model", "decode video", "encode clips", "prefill video", "extend text"),
        *("generate", "wall"),
    ):
        assert word in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4", "What?"], "missing.mp4"),
        (["http://example.com/film.mp4", "What?"], "http://example.com/film.mp4"),
        (["VIDEO", "What?", "--frames", "7"], "--frames 7 is not a positive multiple of 4"),
        (["VIDEO", "What?", "--select", "6", "--frames", "16"], "--select 6 is not a multiple"),
        (["VIDEO", " "], "the question is empty"),
        (["VIDEO", "What?", "--checkpoint", "nowhere"], "nowhere: no such folder"),
        (["VIDEO", "What?", "--start", "5", "--end", "6"], "--start 5 lies after the end"),
    ],
)
def test_main_user_error_prints_one_paragraph(
    arguments: list[str],
    message: str,
    video: Path,
    cache: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(video) if text == "VIDEO" else text for text in arguments]
    assert main(["ask", *arguments, "--cache-dir", cache]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_tune_nonfinite_loss_names_step(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(__file__).parents[1] / "training" / "tiny_experiment.py"
    arguments = ["tune", "--config", str(config), "--workdir", str(tmp_path / "run"), "--quiet"]
    arguments += ["--set", "stages.0.learning_rate=1e30", "--set", "stages.0.warmup_ratio=0"]
    assert main([*arguments, "--cache-dir", cache]) == 2
    err = capsys.readouterr().err
    assert "stage 'base', step " in err
    assert "loss=nan" in err or "inf" in err


def test_tune_unknown_override_exits_2(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(__file__).parents[2] / "configs" / "smoke.py"
    arguments = ["tune", "--config", str(config), "--workdir", str(tmp_path / "run")]
    assert main([*arguments, "--set", "sed=1", "--cache-dir", cache]) == 2
    assert "nearest: seed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
