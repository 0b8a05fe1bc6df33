"""Scans the mixture of an experiment and opens it in every process of the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.config import ConfigError, ExperimentConfig
from xcomp_jax.data.mixture.dataset import MixtureDataset, open_mixture
from xcomp_jax.data.mixture.features import FeatureStore, check_features
from xcomp_jax.data.mixture.judge import check_entries
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan import scan
from xcomp_jax.data.mixture.scan_table import read_table, report_media, write_table
from xcomp_jax.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def scan_training_mixture(
    config: ExperimentConfig, workdir: Path, *, progress: bool = True
) -> None:
    """Scans the mixture into `workdir`/data/scan.csv unless a table is configured.

    One process calls this before any process opens the mixture. Unchanged files are not read again.

    Raises:
        ConfigError: the stored features come from an encoder other than that of `init_from`.
        MixtureError: the mixture is invalid, or most entries of a set are.
    """
    mixture = config.data.mixture
    if mixture.features and config.init_from is not None:
        check_features(Path(mixture.features), Path(config.init_from), config.model)
    if mixture.table:
        return
    loaded, root = load_mixture(mixture), Path(mixture.root)
    check_entries(loaded, max_bad=mixture.max_bad, prompt_as_asked=config.data.prompt_as_asked)
    samples = loaded.samples
    path = _table_path(config, workdir)
    table = scan(samples, root, path, workers=2 * (os.cpu_count() or 1), progress=progress)
    clip_frames = config.model.vision.clip_frames
    reports = report_media(samples, table, root, sampling=config.sampling, clip_frames=clip_frames)
    write_table(path, reports, table)


def open_training_mixture(
    config: ExperimentConfig,
    workdir: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    process_index: int = 0,
    progress: bool = True,
) -> MixtureDataset:
    """Opens the mixture for training; logs bad samples in `workdir`/skipped-<process>.jsonl.

    Raises:
        ConfigError: there is no table; the configured features do not fit the model or the stages;
            or the usable samples differ from those at the start of the run.
        BadSamplesError: more samples are unusable than allowed.
    """
    mixture, vision = config.data.mixture, config.model.vision
    path = _table_path(config, workdir)
    if not path.exists():
        raise ConfigError(
            f"{path}: no such table; write it with `xcomp scan {mixture.path} --out {path}` and "
            "the same --config, or leave data.mixture.table empty"
        )
    reader = MixtureReader(
        config=mixture,
        sampling=config.sampling,
        image_size=vision.image_size,
        clip_frames=vision.clip_frames,
        tokenizer=tokenizer,
        max_text_tokens=config.data.max_text_tokens,
        prompt_as_asked=config.data.prompt_as_asked,
        table=read_table(path),
        features=_open_features(config) if mixture.features else None,
    )
    dataset = open_mixture(
        load_mixture(mixture),
        reader,
        skipped_file=workdir / f"skipped-{process_index}.jsonl",
        progress=progress,
    )
    _check_unchanged(dataset, workdir / "data" / "mixture.json", write=process_index == 0)
    return dataset


def _open_features(config: ExperimentConfig) -> FeatureStore:
    """Opens the configured features; raises ConfigError if a stage trains the encoder."""
    features = config.data.mixture.features
    stages = [stage.name for stage in config.stages if "vision" in stage.trainable]
    if stages:
        raise ConfigError(
            f"data.mixture.features={features!r} holds the output of the frozen encoder, but "
            f"stages {stages} train it; leave features empty, or remove 'vision' from trainable"
        )
    return FeatureStore(Path(features), config.model)


def _check_unchanged(dataset: MixtureDataset, path: Path, *, write: bool) -> None:
    """Raises ConfigError if a resumed run has other samples than those recorded at its start."""
    current = {"samples": len(dataset), "fingerprint": dataset.fingerprint}
    if path.exists():
        remedy = "delete it if the mixture is unchanged since the start of the run"
        initial = read_json(path, remedy=remedy)
        if initial != current:
            raise ConfigError(
                f"{path}: the run started with {initial['samples']} usable samples and now has "
                f"{len(dataset)}, or their order or texts differ. The mixture, its files, "
                "data.prompt_as_asked, the tokenizer, the table of the scan or the store of "
                "features has changed: restore it, delete this file to continue with the current "
                "samples, or use another workdir"
            )
    elif write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, current)


def _table_path(config: ExperimentConfig, workdir: Path) -> Path:
    return Path(config.data.mixture.table or workdir / "data" / "scan.csv")
