"""Tests opening the datasets of a configuration and the checks of its data section."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.tiny_experiment import EXPERIMENT
from xcomp_jax.config import ConfigError, DataConfig
from xcomp_jax.data.synthetic.generate import generate
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.sources import open_datasets


def test_open_datasets_manifest_prepares_and_folder_opens(tmp_path: Path) -> None:
    generated = generate(
        tmp_path / "videos",
        seed=0,
        num_train_videos=16,
        num_eval_videos=4,
        kinds=("color",),
        progress=False,
    )

    def open_in(workdir: str, **data: str) -> tuple:
        config = dataclasses.replace(EXPERIMENT, data=DataConfig(source="prepared", **data))
        return open_datasets(config, tmp_path / workdir, load_tokenizer(None), progress=False)

    train, held_out = open_in("one", train=str(generated.train_manifest))
    assert held_out is None
    assert len(train) == 16
    assert train.folder.is_relative_to(tmp_path / "one" / "data")
    again, other = open_in("two", train=str(train.folder), held_out=str(generated.eval_manifest))
    assert again.folder == train.folder
    assert other.folder.is_relative_to(tmp_path / "two" / "data")
    assert [row.answer for row in again.rows] == [row.answer for row in train.rows]
    assert len(other) == 4


def test_open_datasets_vocab_below_tokenizer_raises(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(None)
    llm = dataclasses.replace(EXPERIMENT.model.llm, vocab_size=len(tokenizer) - 1)
    config = dataclasses.replace(EXPERIMENT, model=dataclasses.replace(EXPERIMENT.model, llm=llm))
    with pytest.raises(
        ConfigError, match=rf"vocab_size={len(tokenizer) - 1} is below the {len(tokenizer)}"
    ):
        open_datasets(config, tmp_path, tokenizer, progress=False)
    assert not list(tmp_path.iterdir())


def test_data_config_without_questions_raises() -> None:
    with pytest.raises(ConfigError, match=r"needs data\.train"):
        DataConfig(source="prepared")
    without_questions = DataConfig(source="prepared", train="train.json")
    with pytest.raises(ConfigError, match=r"evaluate_every_steps=2 needs questions"):
        dataclasses.replace(EXPERIMENT, data=without_questions, evaluate_every_steps=2)
