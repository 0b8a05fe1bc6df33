"""Opening an experiment's mixture: the scan comes first, and a run keeps its samples."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.mixture.example_mixture import SAMPLING, TOKENIZER
from tests.tiny import TINY
from xcomp_jax.config import (
    ConfigError,
    DataConfig,
    ExperimentConfig,
    MixtureConfig,
    StageConfig,
)
from xcomp_jax.data.mixture.dataset import MixtureDataset
from xcomp_jax.data.mixture.experiment import open_training_mixture, scan_training_mixture

STAGE = StageConfig(name="sct", num_steps=1, learning_rate=1e-3)


@pytest.fixture
def experiment(config: MixtureConfig, tmp_path: Path) -> ExperimentConfig:
    """An experiment on a copy of the example mixture."""
    root = tmp_path / "copy"
    shutil.copytree(config.root, root)
    return ExperimentConfig(
        name="mixture",
        model=TINY,
        stages=(STAGE,),
        data=DataConfig(
            source="mixture", mixture=dataclasses.replace(config, root=str(root), max_bad=0.5)
        ),
        sampling=SAMPLING,
        init_from="elsewhere",
    )


def opener(experiment: ExperimentConfig, workdir: Path) -> Callable[[int], MixtureDataset]:
    return lambda process: open_training_mixture(
        experiment, workdir, TOKENIZER, process_index=process, progress=False
    )


def test_open_training_mixture_without_table_is_refused(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no such table"):
        opener(experiment, tmp_path / "run")(0)


def test_open_training_mixture_changed_samples_are_refused(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    workdir, root = tmp_path / "run", Path(experiment.data.mixture.root)
    scan_training_mixture(experiment, workdir, progress=False)
    open_by = opener(experiment, workdir)
    assert len(open_by(0)) == len(open_by(1)) == 10
    assert len((workdir / "skipped-1.jsonl").read_text().splitlines()) == 3
    images = root / "images.json"
    original = images.read_text()
    images.write_text(original.replace("red", "blue"))
    with pytest.raises(ConfigError, match=r"10 usable samples and now has 10, .* texts differ"):
        open_by(1)
    images.write_text(original)
    (root / "media" / "i1.png").unlink()
    assert len(open_by(1)) == 10, "only the scan opens files"
    scan_training_mixture(experiment, workdir, progress=False)
    with pytest.raises(ConfigError, match="started with 10 usable samples and now has 9"):
        open_by(1)


def test_open_training_mixture_trained_encoder_is_refused(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    scan_training_mixture(experiment, tmp_path / "run", progress=False)
    mixture = dataclasses.replace(experiment.data.mixture, features="x")
    training = dataclasses.replace(
        experiment,
        stages=(dataclasses.replace(STAGE, trainable=("vision", "llm")),),
        data=DataConfig(source="mixture", mixture=mixture),
    )
    with pytest.raises(ConfigError, match=r"stages \['sct'\] train it"):
        opener(training, tmp_path / "run")(0)
