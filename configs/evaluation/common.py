"""Values that the protocols share."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from xcomp_jax.config import (
    ConfigError,
    ProtocolConfig,
    PublishedScore,
    SamplingConfig,
    SelectionConfig,
    to_dict,
)

XCOMP = "arXiv 2604.14149, comparison on long-video benchmarks"
ABLATION = "arXiv 2604.14149, ablation of the compression"
VCF = "VideoChat-Flash-2B, quoted in the comparison of arXiv 2604.14149"
VCF_README = "arXiv 2501.00574, and README of github.com/OpenGVLab/VideoChat-Flash"

# VideoChat-Flash: the reader samples one frame per second, at least 64; the scripts
# `scripts/eval_*.sh` set the maximum.
VCF_SAMPLING = SamplingConfig(fps=1, min_frames=64, max_frames=512)

# XComp: `my_scripts_XComp/run.sh` sets 8 frames per second and a minimum of 128.
XCOMP_SAMPLING = SamplingConfig(fps=8, min_frames=128, max_frames=1024)


def xcomp_selection(select: int, repeats: int = 2) -> SelectionConfig:
    """Returns segments of 8 clips every 4 and bias 27, as in `my_scripts_XComp/run.sh`."""
    return SelectionConfig(select=select, repeats=repeats)


def published_score(
    system: str,
    percent: float,
    questions: int,
    source: str,
    group: str = "",
) -> PublishedScore:
    """Returns a mean over questions."""
    return PublishedScore(
        system=system, percent=percent, questions=questions, source=source, group=group
    )


def xcomp(benchmark: str, **settings: object) -> ProtocolConfig:
    """Returns a protocol of XComp-2B."""
    base = ProtocolConfig(
        benchmark=benchmark, system="XComp-2B", sampling=XCOMP_SAMPLING, dtype="float16"
    )
    return dataclasses.replace(base, **settings)  # type: ignore[arg-type]


def vcf(benchmark: str, **settings: object) -> ProtocolConfig:
    """Returns a protocol of VideoChat-Flash-2B, which does not compress inside the decoder."""
    base = ProtocolConfig(
        benchmark=benchmark,
        system="VideoChat-Flash-2B",
        sampling=VCF_SAMPLING,
        compression="none",
        dtype="float16",
    )
    return dataclasses.replace(base, **settings)  # type: ignore[arg-type]


def choose(system: str, protocols: dict[str, ProtocolConfig]) -> ConfigDict:
    """Returns the protocol of a system as the values of a configuration file.

    Raises:
        ConfigError: no such system.
    """
    if system not in protocols:
        raise ConfigError(f"unknown protocol {system!r}; this benchmark has {', '.join(protocols)}")
    return ConfigDict(to_dict(protocols[system]))
