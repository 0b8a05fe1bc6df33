"""Test the help of `xcomp bench` and `xcomp preflight`, and their imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xcomp_jax.cli.main import main

REPO = Path(__file__).parents[2]
BENCHES = (
    "kernels",
    "gpu",
    "blocks",
    "fit",
    "cycles",
    "encoder-cpu",
    "selection-speed",
    "selection-costs",
    "ask",
    "training-overhead",
    "serve",
    "convert-roundtrip",
)


@pytest.mark.parametrize(
    "words", [["preflight"], ["preflight", "table"], ["bench"], *(["bench", n] for n in BENCHES)]
)
def test_help_shows_examples(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main([*words, "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: xcomp {' '.join(words)} ")
    assert f"xcomp {' '.join(words)}" in text.partition("examples:")[2]


def test_parser_imports_no_jax() -> None:
    code = (
        "import sys; from xcomp_jax.cli.main import build_parser; build_parser(); "
        "assert 'jax' not in sys.modules"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def test_selection_costs_equal_published_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "selection-costs", "--frames", "1024"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == ("| 1,024 | 1,881 | 62.4 | 61.5 | 0.987 | 1.45 | 2.35% | 13.6 | 0.135 |")


def test_training_overhead_without_measured_steps_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "training-overhead", "--steps", "30"]) == 2
    assert "--steps 30 must exceed 30" in capsys.readouterr().err


def test_encoder_cpu_peer_without_torch_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = tmp_path / "python"
    peer.write_text("#!/bin/sh\necho \"No module named 'torch'\" >&2; exit 1\n")
    peer.chmod(0o755)
    assert main(["bench", "encoder-cpu", "--peer", str(peer)]) == 2
    message = capsys.readouterr().err
    assert "No module named 'torch'; --peer needs a Python interpreter with PyTorch" in message
