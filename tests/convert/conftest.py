"""Checkpoints to convert, and checks of rejected conversions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.convert import torch_model
from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint

GOLDEN_MODEL = Path(__file__).parent.parent / "goldens" / "00_model"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Writes a small valid checkpoint in PyTorch layout."""
    return torch_model.make(tmp_path / "source")


Saved = tuple[Path, ModelConfig, dict[str, Any]]


@pytest.fixture
def saved(source: Path) -> Saved:
    """Saves an XComp-JAX checkpoint and returns its folder, model and parameters."""
    model, params = load_torch_checkpoint(source)
    folder = source.parent / "ckpt"
    extra = [source / "vocab.json", source / "merges.txt"]
    texts = {"README.md": "card"}
    save_params(folder, model, params, source={"run": 7}, extra_files=extra, texts=texts)
    return folder, model, params


def entries(folder: Path) -> list[str]:
    """Lists the names in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def conversion_problems(source: Path, **options: Any) -> list[str]:
    """Returns the problems of a rejected conversion and checks that nothing was written."""
    before = entries(source.parent)
    with pytest.raises(ConversionError) as caught:
        convert_from_torch(str(source), source.parent / "out", **options)
    assert entries(source.parent) == before
    return caught.value.problems
