"""`xcomp convert`: help, aliases, old spellings, sizes, and failures on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.convert.conftest import entries
from xcomp_jax.cli.convert import VERIFY_EXAMPLES
from xcomp_jax.cli.main import main
from xcomp_jax.convert.activations import ARRAY_NAMES
from xcomp_jax.convert.from_torch import convert_from_torch


def help_text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["convert", *arguments, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["from-torch", "to-torch", "verify"])
def test_help_of_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys, command)
    assert "examples:" in text
    assert f"xcomp convert {command} " in text


def test_help_lists_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys)
    for command in ("from-torch", "to-torch", "verify", "variants"):
        assert f"\n    {command}" in text


def test_help_lists_activation_arrays() -> None:
    for name in (*ARRAY_NAMES, "hidden_after_layer_NN"):
        assert f"{name} [" in " ".join(VERIFY_EXAMPLES.split())


@pytest.mark.parametrize("command", ["from_torch", "to_torch"])
def test_underscore_spelling_is_alias(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert help_text(capsys, command) == help_text(capsys, command.replace("_", "-"))


def test_help_is_printed_without_importing_jax() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "xcomp_jax.cli.main", "convert"]
    done = subprocess.run(
        [*command, "from-torch", "--help"], capture_output=True, text=True, check=True
    )
    assert "| jax" not in done.stderr.replace("xcomp_jax", "")


def test_variants_lists_published_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "variants"]) == 0
    assert "XComp-2B_res448" in capsys.readouterr().out


def test_module_spelling_runs_command(source: Path) -> None:
    out = source.parent / "out"
    command = [sys.executable, "-m", "convert", "from_torch", str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "config.json").read_text())["source"]["name"] == str(source)


def test_bench_module_spelling_runs_command() -> None:
    command = [sys.executable, "-m", "convert.bench_roundtrip", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "launch.bench.convert_roundtrip" in done.stdout


@pytest.mark.parametrize("size", ["0", "5XB", "-1", "1.5GB", ""])
def test_invalid_shard_size_is_rejected(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", "to-torch", "a", "b", f"--max-shard-size={size}"])
    assert caught.value.code == 2
    assert f"{size!r} is not a size; use a positive number" in capsys.readouterr().err


def test_failed_write_leaves_nothing(source: Path) -> None:
    """Limits files to 2 KB in a child process: both directions report it and clean up."""
    convert_from_torch(str(source), source.parent / "jax")
    before = entries(source.parent)
    program = f"""
import resource, sys
from xcomp_jax.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
folder = {str(source.parent)!r}
codes = [main(["convert", "from-torch", folder + "/source", folder + "/x"]),
         main(["convert", "to-torch", folder + "/jax", folder + "/y"])]
sys.exit(codes != [2, 2])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "xcomp convert from-torch: " in done.stderr
    assert "cannot be written" in done.stderr
    assert "xcomp convert to-torch: [Errno 27] File too large" in done.stderr
    assert entries(source.parent) == before


def test_command_never_imports_torch(source: Path) -> None:
    # None in sys.modules makes every import of that name fail, installed or not.
    program = f"""
import sys
sys.modules["torch"] = None
from xcomp_jax.cli.main import main
folder = {str(source.parent)!r}
sys.exit(main(["convert", "from-torch", folder + "/source", folder + "/jax"])
         or main(["convert", "to-torch", folder + "/jax", folder + "/torch"])
         or main(["convert", "verify", folder + "/source", folder + "/torch"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
