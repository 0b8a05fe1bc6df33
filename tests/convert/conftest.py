"""Checkpoints to convert."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.convert import torch_model

GOLDEN_MODEL = Path(__file__).parent.parent / "goldens" / "00_model"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small valid checkpoint in the original's layout."""
    return torch_model.make(tmp_path / "source")
