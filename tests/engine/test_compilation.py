"""Tests that programs read from the compilation cache are not counted as compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.quick import REPO

PROGRAM = """
import sys
from pathlib import Path
import jax
from xcomp_jax.engine.compilation import COMPILATIONS, use_compilation_cache

use_compilation_cache(Path(sys.argv[1]))
before = COMPILATIONS.count
jax.jit(lambda x: x * 2 + 1)(jax.numpy.arange(5.0))
print(COMPILATIONS.count - before)
"""


def test_compilations_of_second_process_are_none(tmp_path: Path) -> None:
    counts = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, tmp_path / "compiled"],
            cwd=REPO,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert int(counts[0]) > 0
    assert int(counts[1]) == 0
