"""Tests tuning from a converted PyTorch checkpoint and exporting the result to PyTorch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from tests.convert import torch_model
from tests.training.tiny_experiment import BASE, get_config
from xcomp_jax.checkpoint import CheckpointError, load_params
from xcomp_jax.config import CompressionConfig, ConfigError, ExperimentConfig, from_dict
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.data.prepared.tokens import tokenizer_digest
from xcomp_jax.text.tokenizer import builtin_tokenizer, load_tokenizer
from xcomp_jax.training.tune import tune


def test_converted_base_tuned_exports_to_torch(tmp_path: Path) -> None:
    source = torch_model.make(
        tmp_path / "torch",
        vocab_size=576,
        hidden_size=16,
        intermediate_size=24,
        mm_hidden_size=16,
        tiny_vision_hidden_size=16,
    )
    # The tokenizer files of `torch_model` are placeholders.
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (source / name).unlink()
    tokenizer = builtin_tokenizer()
    tokenizer.add_tokens([AddedToken("zebra")])
    tokenizer.save_pretrained(str(source))
    base = tmp_path / "base"
    convert_from_torch(str(source), base, compression=CompressionConfig())
    model, before = load_params(base)
    tiny = from_dict(ExperimentConfig, get_config().to_dict())
    config = dataclasses.replace(
        tiny,
        model=model,
        init_from=str(base),
        stages=(
            dataclasses.replace(
                BASE, name="sct", num_steps=2, compression=CompressionConfig(), trainable=("llm",)
            ),
        ),
    )
    tune(config, tmp_path / "run")
    _, after = load_params(tmp_path / "run" / "checkpoint")
    np.testing.assert_array_equal(
        after["vision"]["patch_embed"]["kernel"], before["vision"]["patch_embed"]["kernel"]
    )
    moved = np.abs(after["llm"]["norm"]["scale"] - before["llm"]["norm"]["scale"]).max()
    assert 0 < moved < 1e-2, "control: tuned, but still close to the base"
    exported = AutoTokenizer.from_pretrained(str(tmp_path / "run" / "checkpoint"))
    assert tokenizer_digest(exported) == tokenizer_digest(load_tokenizer(str(base)))
    assert tokenizer_digest(exported) != tokenizer_digest(builtin_tokenizer())

    convert_to_torch(tmp_path / "run" / "checkpoint", tmp_path / "exported")
    written, source_config = (
        json.loads((folder / "config.json").read_text())
        for folder in (tmp_path / "exported", source)
    )
    assert {key: written[key] for key in source_config} == source_config
    _, again = load_torch_checkpoint(tmp_path / "exported")
    np.testing.assert_array_equal(again["llm"]["norm"]["scale"], after["llm"]["norm"]["scale"])

    other = dataclasses.replace(config, model=tiny.model)
    with pytest.raises(ConfigError, match=r"init_from=.* holds a model with vision="):
        tune(other, tmp_path / "refused")


def test_tune_foreign_export_folder_is_refused_at_once(tmp_path: Path) -> None:
    torch_model.make(tmp_path / "run" / "checkpoint")
    config = from_dict(ExperimentConfig, get_config().to_dict())
    with pytest.raises(CheckpointError, match="shows that `xcomp tune` wrote it"):
        tune(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint"]
