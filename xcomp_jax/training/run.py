"""Holds what all parts of a run of training share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from xcomp_jax.config import ExperimentConfig
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.stopping import StopRequest
from xcomp_jax.training.writers import Writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that the stages of a run share; `writers` is empty except on process 0."""

    config: ExperimentConfig
    workdir: Path
    mesh: Mesh
    observation: Observation
    stop: StopRequest
    writers: tuple[Writer, ...] = ()
