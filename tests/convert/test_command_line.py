"""The command line as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xcomp_jax.convert.__main__ import main
from xcomp_jax.convert.from_torch import convert_from_torch


@pytest.mark.parametrize("command", ["from_torch", "to_torch", "verify"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"python -m convert {command} " in text


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command in ("from_torch", "to_torch", "verify", "variants"):
        assert command in text


def test_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variants"]) == 0
    assert "XComp-2B_res448" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["0", "5XB", "-1", "1.5GB", ""])
def test_sizes(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["to_torch", "a", "b", "--max-shard-size", size])
    assert caught.value.code == 2
    assert "expected a size such as 5000000, 500MB or 5GB" in capsys.readouterr().err


def test_a_disk_that_refuses_leaves_nothing(source: Path) -> None:
    """Files may not grow beyond 2 KB in a child process: both directions say so and clean up."""
    convert_from_torch(str(source), source.parent / "ours")
    before = sorted(entry.name for entry in source.parent.iterdir())
    program = f"""
import resource, sys
from xcomp_jax.convert.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
place = {str(source.parent)!r}
codes = [main(["from_torch", place + "/source", place + "/x"]),
         main(["to_torch", place + "/ours", place + "/y"])]
sys.exit(codes != [1, 1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stderr
    assert "error: [Errno 27] File too large" in done.stderr
    assert sorted(entry.name for entry in source.parent.iterdir()) == before


def test_torch_is_never_imported() -> None:
    # None in sys.modules makes any import of that name fail, installed or not.
    program = "import sys; sys.modules['torch'] = None; import convert.__main__"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
