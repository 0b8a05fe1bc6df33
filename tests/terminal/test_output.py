"""Tests output to closed pipes, full disks and terminals of other encodings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from xcomp_jax.terminal.output import check_text, describe

PROGRAM = """
import sys
from xcomp_jax.terminal.output import *
use_lossless_text()
try:
    with written_output():
        for i in range(20000):
            print("\\N{SNOWMAN}", sys.argv[1])
            if i == 0:
                sys.stdout.flush()
except ClosedOutputError:
    sys.exit(EXIT_CLOSED_PIPE)
except OSError as error:
    print(describe(error), file=sys.stderr)
    sys.exit(2)
"""


def command(text: str) -> list[str | bytes]:
    return [sys.executable, "-c", PROGRAM, os.fsencode(text)]


def test_written_output_to_closed_pipe_ends_silently() -> None:
    with subprocess.Popen(command("x"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().split()[-1] == b"x"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_written_output_to_full_disk_names_reason() -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            command("x"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert process.returncode == 2
    assert process.stderr.startswith("No space left on device; free some space")
    assert process.stderr.count("\n") == 1


def test_use_lossless_text_prints_any_character() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        command("caf\udce9"), env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[0] == "\\u2603 caf\\udce9"


def test_check_text_lone_surrogate_raises() -> None:
    assert check_text("café", "the question") == "café"
    with pytest.raises(ValueError, match=r"the question contains bytes .* after 'caf'"):
        check_text("caf\udce9", "the question")


def test_describe_system_error_names_file_and_remedy() -> None:
    assert describe(FileNotFoundError(2, "No such file or directory", "a.txt")) == (
        "a.txt: No such file or directory; check the path"
    )
    assert describe(OSError(28, "No space left on device", "a.txt")).endswith("on another disk")
    assert describe(ValueError("plain")) == "plain"
