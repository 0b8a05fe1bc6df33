"""The mixture of an experiment: scanned, then opened by every process of the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.config import ConfigError, ExperimentConfig
from xcomp_jax.data.mixture.dataset import MixtureDataset, open_mixture
from xcomp_jax.data.mixture.features import FeatureStore
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan import findings, read_table, scan, write_table
from xcomp_jax.files import read_json, write_json
from xcomp_jax.inference.encode_mixture import check_features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def scan_training_mixture(
    config: ExperimentConfig, workdir: Path, *, progress: bool = True
) -> None:
    """Scans the files of the mixture into `workdir`/data/scan.csv, where no table is configured.

    For one process, before the others open the mixture. A second call looks only at what changed.

    Raises:
        ConfigError: the features to learn from were made by another encoder than `init_from`'s.
    """
    mixture = config.data.mixture
    if mixture.features and config.init_from is not None:
        check_features(Path(mixture.features), Path(config.init_from), config.model)
    if mixture.table:
        return
    samples, root = load_mixture(mixture).samples, Path(mixture.root)
    path = _table_path(config, workdir)
    table = scan(samples, root, path, workers=2 * (os.cpu_count() or 1), progress=progress)
    clip_frames = config.model.vision.clip_frames
    found = findings(samples, table, root, sampling=config.sampling, clip_frames=clip_frames)
    write_table(path, found, table)


def open_training_mixture(
    config: ExperimentConfig,
    workdir: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    process_index: int = 0,
    progress: bool = True,
) -> MixtureDataset:
    """The mixture as something to train on; bad samples go to `workdir`/skipped-<process>.jsonl.

    Raises:
        ConfigError: there is no table; features are asked for while a stage trains the encoder, or
            those of another one; or the usable samples are not those that the run began with.
        BadSamplesError: more samples are unusable than allowed.
    """
    mixture, model = config.data.mixture, config.model
    path = _table_path(config, workdir)
    if not path.exists():
        raise ConfigError(
            f"{path}: no such table; write it with `xcomp scan {mixture.path} --out {path}` and "
            "the same --config, or leave data.mixture.table empty"
        )
    features = None
    if mixture.features:
        learning = [stage.name for stage in config.stages if "vision" in stage.trainable]
        if learning:
            raise ConfigError(
                f"data.mixture.features={mixture.features!r} holds what the encoder made before "
                f"training, but stages {learning} train it; leave features empty, or take 'vision' "
                "out of their trainable"
            )
        features = FeatureStore(Path(mixture.features), model)
    reader = MixtureReader(
        config=mixture,
        sampling=config.sampling,
        image_size=model.vision.image_size,
        clip_frames=model.vision.clip_frames,
        tokenizer=tokenizer,
        max_text_tokens=config.data.max_text_tokens,
        prompt_as_asked=config.data.prompt_as_asked,
        table=read_table(path),
        features=features,
    )
    dataset = open_mixture(
        load_mixture(mixture),
        reader,
        skipped_file=workdir / f"skipped-{process_index}.jsonl",
        progress=progress,
    )
    _check_unchanged(dataset, workdir / "data" / "mixture.json", write=process_index == 0)
    return dataset


def _check_unchanged(dataset: MixtureDataset, path: Path, *, write: bool) -> None:
    """A run that goes on with other samples would not be the run that was begun."""
    mine = {"samples": len(dataset), "fingerprint": dataset.fingerprint}
    if path.exists():
        theirs = read_json(path, remedy="delete it if the mixture is the one the run began with")
        if theirs != mine:
            raise ConfigError(
                f"{path}: the run began with {theirs['samples']} usable samples, now there are "
                f"{len(dataset)}, or the same in another order or with other texts: the mixture, "
                "its files, data.prompt_as_asked, the tokenizer, the table of the scan or the "
                "store of features changed. Restore them, or delete this file to go on with what "
                "is there now, or begin in another workdir"
            )
    elif write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, mine)


def _table_path(config: ExperimentConfig, workdir: Path) -> Path:
    return Path(config.data.mixture.table or workdir / "data" / "scan.csv")
