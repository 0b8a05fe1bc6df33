"""Tests the choice between data.tokenizer, the tokenizer of init_from and the built-in one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import pytest
from tokenizers import AddedToken

from tests.training.tiny_experiment import EXPERIMENT, SCT
from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import ConfigError, DataConfig, ExperimentConfig
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.text.tokenizer import builtin_tokenizer
from xcomp_jax.training.run_tokenizer import run_tokenizer
from xcomp_jax.training.tune import tune

WORD = "zebra"


@pytest.fixture(scope="module", name="base")
def base_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a checkpoint whose tokenizer has one more token than the built-in one."""
    folder = tmp_path_factory.mktemp("base") / "base"
    tokenizer = builtin_tokenizer()
    tokenizer.add_tokens([AddedToken(WORD)])
    params = init_params(EXPERIMENT.model, jax.random.key(0))
    save_params(folder, EXPERIMENT.model, params, tokenizer=tokenizer)
    return folder


def experiment(base: Path | None, tokenizer: Path | None = None) -> ExperimentConfig:
    return dataclasses.replace(
        EXPERIMENT,
        data=DataConfig(
            source="generated",
            num_train_videos=2,
            num_eval_videos=1,
            question_kinds=("color", "direction"),
            tokenizer=None if tokenizer is None else str(tokenizer),
        ),
        stages=(dataclasses.replace(SCT, num_steps=1, batch_size=2),),
        init_from=None if base is None else str(base),
    )


def test_run_tokenizer_equal_folders_are_accepted(base: Path) -> None:
    assert WORD in run_tokenizer(experiment(base, tokenizer=base)).get_vocab()


def test_tune_contradicting_tokenizers_creates_no_workdir(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "tokenizer"
    builtin_tokenizer().save_pretrained(str(other))
    with pytest.raises(ConfigError) as error:
        tune(experiment(base, tokenizer=other), tmp_path / "run")
    assert f"data.tokenizer={str(other)!r} (521 tokens)" in str(error.value)
    assert f"init_from={str(base)!r} (522 tokens)" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_run_tokenizer_base_without_one_is_builtin(tmp_path: Path) -> None:
    assert WORD not in run_tokenizer(experiment(tmp_path)).get_vocab()
