"""What a configuration names is found, or made in the workdir."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.tiny_experiment import EXPERIMENT
from xcomp_jax.config import ConfigError, DataConfig
from xcomp_jax.data.synthetic.generate import generate
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.sources import open_datasets


def test_a_manifest_is_prepared_and_a_prepared_folder_opened(tmp_path: Path) -> None:
    made = generate(
        tmp_path / "videos",
        seed=0,
        num_train_videos=16,
        num_eval_videos=4,
        kinds=("color",),
        progress=False,
    )

    def opened(workdir: str, **data: str) -> tuple:
        config = dataclasses.replace(EXPERIMENT, data=DataConfig(source="prepared", **data))
        return open_datasets(config, tmp_path / workdir, load_tokenizer(None), progress=False)

    train, held_out = opened("one", train=str(made.train_manifest))
    assert held_out is None
    assert len(train) == 16
    assert train.folder.is_relative_to(tmp_path / "one" / "data")
    again, other = opened("two", train=str(train.folder), held_out=str(made.eval_manifest))
    assert again.folder == train.folder
    assert other.folder.is_relative_to(tmp_path / "two" / "data")
    assert [row.answer for row in again.rows] == [row.answer for row in train.rows]
    assert len(other) == 4


def test_every_token_needs_an_embedding(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(None)
    few = dataclasses.replace(EXPERIMENT.model.llm, vocab_size=len(tokenizer) - 1)
    config = dataclasses.replace(EXPERIMENT, model=dataclasses.replace(EXPERIMENT.model, llm=few))
    with pytest.raises(ConfigError, match=rf"vocab_size={len(tokenizer) - 1} has no embeddings"):
        open_datasets(config, tmp_path, tokenizer, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_run_that_asks_needs_questions() -> None:
    with pytest.raises(ConfigError, match=r"needs data\.train"):
        DataConfig(source="prepared")
    silent = DataConfig(source="prepared", train="train.json")
    with pytest.raises(ConfigError, match=r"evaluate_every_steps=2 needs questions"):
        dataclasses.replace(EXPERIMENT, data=silent, evaluate_every_steps=2)
