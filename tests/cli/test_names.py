"""Tests the names of models and flags that a person reads, and that wrong names cost no import."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from xcomp_jax.cli.flag_names import with_flags
from xcomp_jax.cli.model_name import model_name

COMMANDS = """
import sys
from xcomp_jax.cli.main import main
for line in sys.argv[1].splitlines():
    assert main(line.split()) in (1, 2), line
    assert "jax" not in sys.modules, line
"""
MISTYPED = """ask gone.mp4 What?
ask setup.py
ask setup.py What? --checkpoint gone/folder/name
chat gone.mp4
chat gone.mkv --follow
encode gone.mp4
encode --mixture gone.yaml
scan gone.yaml
tune --config gone --workdir runs/gone
tune --workdir gone --export out
convert from-torch gone out
convert verify gone out"""


def test_mistyped_names_are_reported_without_jax() -> None:
    process = subprocess.run(
        [sys.executable, "-c", COMMANDS, MISTYPED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("\n") == MISTYPED.count("\n") + 1


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("num_frames=7 is not", "--frames 7 is not"),
        ("selection.select=6 is not", "--select 6 is not"),
        ("selection.layers=(5, 60) goes", "--layers 5:60 goes"),
        ("segment_stride=9 exceeds segment_clips=8", "--stride 9 exceeds --segment 8"),
        ("my_num_frames=7 and learning_rate=3", "my_num_frames=7 and learning_rate=3"),
    ],
)
def test_with_flags_replaces_fields_that_a_flag_sets(message: str, shown: str) -> None:
    assert with_flags(message) == shown


@pytest.mark.parametrize(
    ("folder", "source", "name"),
    [
        ("run/checkpoint", {"experiment": "smoke", "stage": "sct"}, "smoke, stage sct"),
        ("a", {"name": "owner/name", "revision": "0123456789"}, "owner/name@0123456"),
        ("a", {"name": "/home/user/XComp-2B", "revision": None}, "XComp-2B"),
        ("run/checkpoint", {}, "run/checkpoint"),
        ("xcomp-2b", {}, "xcomp-2b"),
    ],
)
def test_model_name_tells_models_apart(
    folder: str, source: dict[str, str | None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"source": source}))
    options = argparse.Namespace(checkpoint=str(path), revision=None)
    assert model_name(options) == name


def test_model_name_of_hub_id_has_revision() -> None:
    options = argparse.Namespace(checkpoint="owner/name", revision="v1")
    assert model_name(options) == "owner/name@v1"
    assert model_name(argparse.Namespace(checkpoint=None)) == "demo checkpoint"
