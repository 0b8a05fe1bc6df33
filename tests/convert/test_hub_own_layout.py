"""Checkpoints of XComp-JAX on the hub: downloaded whole, opened by `from_pretrained`."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import xcomp_jax
from tests.convert.hub_server import REPOSITORY, serve
from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import CompressionConfig
from xcomp_jax.convert.hub import find_source
from xcomp_jax.text.tokenizer import builtin_tokenizer

COMMIT = "0123456789" * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Downloads a checkpoint into a hub cache, which becomes the default one."""
    folder = tmp_path / "checkpoint"
    save_params(folder, TINY, tiny_params(), tokenizer=builtin_tokenizer())
    (folder / "modeling.py").write_text("raise SystemExit('executed')")
    cache = tmp_path / "cache"
    with serve({COMMIT: folder}, {"main": COMMIT}) as server:
        find_source(REPOSITORY, endpoint=server.url, cache_dir=cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def test_own_layout_on_hub_is_opened(cache: Path) -> None:
    session = xcomp_jax.from_pretrained(REPOSITORY, revision=COMMIT, selection=None)
    assert session.config == TINY
    jax.tree.map(np.testing.assert_array_equal, session.params, tiny_params())
    assert not list(cache.rglob("modeling.py"))


def test_own_layout_on_hub_rejects_compression(cache: Path) -> None:
    with pytest.raises(ValueError, match="owner/name is a converted checkpoint; compression"):
        xcomp_jax.from_pretrained(
            REPOSITORY, revision=COMMIT, compression=CompressionConfig(schedule="none")
        )
