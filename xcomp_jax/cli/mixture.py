"""Options that `xcomp scan` and `xcomp encode --mixture` share."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xcomp_jax.config import ExperimentConfig, MixtureConfig, SamplingConfig


@dataclasses.dataclass(frozen=True)
class MixtureSettings:
    """A mixture, and how a run reads its videos and conversations.

    experiment: the configuration given by --config, if any.
    """

    mixture: MixtureConfig
    sampling: SamplingConfig
    clip_frames: int
    image_size: int
    prompt_as_asked: bool
    experiment: ExperimentConfig | None


def default_table(mixture: Path) -> Path:
    """Returns the default path of the scan's table, MIXTURE.scan.csv."""
    return mixture.with_suffix(".scan.csv")


def add_mixture_options(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Adds `--config`, `--set` and `--root`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="experiment file that defines the mixture subset, shuffle seed and frame sampling "
        "(default: all samples, published sampling)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of --config, such as data.mixture.max_bad=0.05; may be repeated",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that relative paths of the mixture start from (default: as in "
        "--config, or the current directory)",
    )


def resolve_mixture(options: argparse.Namespace, path: Path) -> MixtureSettings:
    """Returns the settings for the mixture at `path`; raises ConfigError for invalid options."""
    from xcomp_jax.config import ConfigError, MixtureConfig, SamplingConfig, VisionConfig
    from xcomp_jax.experiment import load_experiment

    if options.config is None and options.set:
        raise ConfigError(f"--set {options.set[0]} needs --config FILE, whose fields it overrides")
    experiment = None if options.config is None else load_experiment(options.config, options.set)
    mixture = MixtureConfig() if experiment is None else experiment.data.mixture
    mixture = dataclasses.replace(
        mixture,
        path=str(path),
        root=mixture.root if options.root is None else str(options.root),
    )
    vision = VisionConfig() if experiment is None else experiment.model.vision
    return MixtureSettings(
        mixture=mixture,
        sampling=SamplingConfig() if experiment is None else experiment.sampling,
        clip_frames=vision.clip_frames,
        image_size=vision.image_size,
        prompt_as_asked=experiment is not None and experiment.data.prompt_as_asked,
        experiment=experiment,
    )
