from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three frames, which are only hashed and need not be images."""
    path = tmp_path / "frames"
    path.mkdir()
    for number in range(3):
        (path / f"{number}.png").write_bytes(bytes([number]) * 10)
    return path
