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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out slow tests unless -m says otherwise: one of them writes 15 GB."""
    if config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
