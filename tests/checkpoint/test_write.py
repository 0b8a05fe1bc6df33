"""Tests checkpoint folders with a tokenizer; tests/convert covers the arrays."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import CheckpointReader, load_params, save_params
from xcomp_jax.text.chatml import encode
from xcomp_jax.text.tokenizer import builtin_tokenizer, load_tokenizer


def test_save_params_with_tokenizer_is_read_back(tmp_path: Path) -> None:
    tokenizer = builtin_tokenizer()
    save_params(tmp_path / "saved", TINY, tiny_params(), tokenizer=tokenizer)
    config, params = load_params(tmp_path / "saved")
    assert config == TINY
    jax.tree.map(np.testing.assert_array_equal, params, tiny_params())
    text = "<|im_start|>user\nWhich colour?<|im_end|>\n"
    assert encode(load_tokenizer(str(tmp_path / "saved")), text) == encode(tokenizer, text)
    assert CheckpointReader(tmp_path / "saved").source == {}


def test_save_params_without_tokenizer_has_none(tmp_path: Path) -> None:
    save_params(tmp_path / "saved", TINY, tiny_params())
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        ".xcomp_jax.json",
        "config.json",
        "params",
    ]
    with pytest.raises(ValueError, match=r"the folder needs tokenizer\.json"):
        load_tokenizer(str(tmp_path / "saved"))


def test_checkpoint_named_with_parent_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    name = tmp_path / "other" / ".." / "saved"
    save_params(name, TINY, tiny_params())
    jax.tree.map(np.testing.assert_array_equal, load_params(name)[1], tiny_params())


def test_save_params_holds_no_path_of_its_machine(tmp_path: Path) -> None:
    save_params(tmp_path / "saved", TINY, tiny_params())
    for path in (tmp_path / "saved").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_save_params_failing_tokenizer_leaves_nothing(tmp_path: Path) -> None:
    class Failing:
        def save_pretrained(self, save_directory: str, /) -> None:
            (Path(save_directory) / "tokenizer.json").write_text("{")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_params(tmp_path / "saved", TINY, tiny_params(), tokenizer=Failing())
    assert list(tmp_path.iterdir()) == []
