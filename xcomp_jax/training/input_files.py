"""Lists what a run reads, and checks that it is unchanged since the run started (`inputs`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.checkpoint.read import CONFIG_FILE
from xcomp_jax.config import ExperimentConfig, MixtureConfig
from xcomp_jax.data.mixture.dataset import MixtureDataset
from xcomp_jax.data.mixture.media import Media, image_path
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.prepared.manifest import load_manifest
from xcomp_jax.data.prepared.tokens import tokenizer_digest
from xcomp_jax.training.inputs import RECORD_FILE, check_inputs
from xcomp_jax.video.errors import VideoError


def check_files_unchanged(
    config: ExperimentConfig, workdir: Path, tokenizer: Any, sources: Sequence[Path]
) -> None:
    """Checks manifests and their videos, media of a mixture, `init_from` and the tokenizer.

    Args:
        sources: manifests and prepared folders.

    Raises:
        ConfigError: a file has changed; the message names it.
        ManifestError, MixtureError: a source is invalid.
    """
    paths = [path for source in sources for path in _source_files(source)]
    # Training from stored features reads no media file.
    if config.data.source == "mixture" and not config.data.mixture.features:
        paths += _media_files(config.data.mixture)
    if config.init_from is not None:
        # It holds the hash of every array.
        paths.append(Path(config.init_from) / CONFIG_FILE)
    contents = {"the tokenizer": tokenizer_digest(tokenizer)}
    check_inputs(_record(workdir), paths, contents=contents)


def check_features_unchanged(dataset: MixtureDataset, workdir: Path) -> None:
    """Checks that a mixture with stored features has the same store entries as at the start.

    Raises:
        ConfigError: the features of a file were encoded again from another content.
    """
    reader = dataset.reader
    if reader.features is not None:
        samples = {sample.media: sample for sample in dataset.samples}
        digests = {_name(media): reader.feature_digest(s) for media, s in samples.items()}
        check_inputs(_record(workdir), (), contents=digests)


def _record(workdir: Path) -> Path:
    return workdir / "data" / RECORD_FILE


def _source_files(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(path for path in source.rglob("*") if path.is_file())
    videos = (source.parent / row.video for row in load_manifest(source))
    return [source, *videos]


def _media_files(config: MixtureConfig) -> list[Path]:
    media = dict.fromkeys(sample.media for sample in load_mixture(config).samples)
    return [_media_file(medium, Path(config.root)) for medium in media]


def _media_file(media: Media, root: Path) -> Path:
    path = root / media.path
    try:
        return image_path(path) if media.kind == "image" else path
    except VideoError:  # missing, which the scan reports
        return path


def _name(media: Media) -> str:
    return "stored features of " + " ".join(
        str(value) for value in dataclasses.astuple(media) if value is not None
    )
