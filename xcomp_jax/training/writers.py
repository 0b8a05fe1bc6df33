"""Sends the metrics of a run to TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from xcomp_jax.config import ConfigError, ExperimentConfig, to_dict
from xcomp_jax.files import write_text
from xcomp_jax.training.observe import Observation


class Writer(Protocol):
    """Receives the metrics of every step of every stage."""

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Records the values of one step."""

    def close(self) -> None:
        """Flushes all values and releases the logger."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "--tensorboard needs the package tensorboardX: pip install 'xcomp-jax[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, project: str, config: ExperimentConfig, workdir: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "--wandb needs the package wandb: pip install 'xcomp-jax[wandb]'"
            ) from error
        # A resumed run continues the same curves.
        id_file = workdir / "wandb_id.txt"
        self._run = wandb.init(
            project=project,
            id=id_file.read_text(encoding="utf-8") if id_file.exists() else None,
            resume="allow",
            name=workdir.name,
            dir=str(workdir),
            config=to_dict(config),
        )
        write_text(id_file, self._run.id)

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        # wandb's own step must increase over all stages, so each stage logs its step as a value.
        named = {f"{stage}/{name}": value for name, value in values.items()}
        self._run.log({**named, f"{stage}/step": step})

    def close(self) -> None:
        self._run.finish()


def open_writers(
    observation: Observation, config: ExperimentConfig, workdir: Path
) -> tuple[Writer, ...]:
    """Opens the writers that `observation` selects.

    Raises:
        ConfigError: a package is missing.
    """
    writers: list[Writer] = []
    if observation.tensorboard:
        writers.append(_TensorBoard(workdir / "tensorboard"))
    if observation.wandb is not None:
        writers.append(_Wandb(observation.wandb, config, workdir))
    return tuple(writers)
