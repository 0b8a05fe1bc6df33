"""What `xcomp scan` and `xcomp encode --mixture` have in common: which samples, seen how."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xcomp_jax.config import ExperimentConfig, MixtureConfig, SamplingConfig


@dataclasses.dataclass(frozen=True)
class Asked:
    """The mixture, and how its videos are sampled in clips of `clip_frames`."""

    mixture: MixtureConfig
    sampling: SamplingConfig
    clip_frames: int
    experiment: ExperimentConfig | None


def default_table(mixture: Path) -> Path:
    """Where `xcomp scan` writes what it finds unless it is told: MIXTURE.scan.csv."""
    return mixture.with_suffix(".scan.csv")


def add_mixture_options(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """`--config`, `--set` and `--root`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="experiment whose part of the mixture, shuffling and sampling of frames count "
        "(default: all samples, frames as published)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of that configuration; may be repeated",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that relative paths of the mixture begin at (default: as configured, or the "
        "current one)",
    )


def asked_mixture(options: argparse.Namespace, path: Path) -> Asked:
    """The mixture at `path` with what the options say; raises ConfigError."""
    from xcomp_jax.config import ConfigError, MixtureConfig, SamplingConfig, VisionConfig
    from xcomp_jax.experiment import load_experiment

    if options.config is None and options.set:
        raise ConfigError(f"--set {options.set[0]} overrides a field of --config FILE; give that")
    experiment = None if options.config is None else load_experiment(options.config, options.set)
    mixture = MixtureConfig() if experiment is None else experiment.data.mixture
    mixture = dataclasses.replace(
        mixture,
        path=str(path),
        root=mixture.root if options.root is None else str(options.root),
    )
    return Asked(
        mixture=mixture,
        sampling=SamplingConfig() if experiment is None else experiment.sampling,
        clip_frames=(
            VisionConfig().clip_frames
            if experiment is None
            else experiment.model.vision.clip_frames
        ),
        experiment=experiment,
    )
