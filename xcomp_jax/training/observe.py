"""Who is told about a run while it goes on: files, TensorBoard, wandb, a profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from xcomp_jax.config import ConfigError, ExperimentConfig, to_dict
from xcomp_jax.files import write_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """A trace by JAX's profiler of `count` steps from `step` on, in each stage that gets there."""

    step: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Profile:
        """From `STEP:COUNT`.

        Raises:
            ConfigError: it is not of that form.
        """
        step, _, count = text.partition(":")
        if not (step.isdigit() and count.isdigit() and int(step) >= 1 and int(count) >= 1):
            raise ConfigError(f"profile={text!r} must be STEP:COUNT, such as 20:3 for steps 20-22")
        return cls(step=int(step), count=int(count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """What a run shows beside metrics.jsonl, which it always writes.

    tensorboard: event files in tensorboard/ of the workdir. wandb: project to log to.
    """

    progress: bool = True
    tensorboard: bool = False
    wandb: str | None = None
    profile: Profile | None = None


class Writer(Protocol):
    """Takes the numbers of one step of one stage."""

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Adds them."""

    def close(self) -> None:
        """Everything is handed over."""


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
        # A run that is started again goes on in the same curves.
        known = workdir / "wandb_id.txt"
        self._run = wandb.init(
            project=project,
            id=known.read_text(encoding="utf-8") if known.exists() else None,
            resume="allow",
            name=workdir.name,
            dir=str(workdir),
            config=to_dict(config),
        )
        write_text(known, self._run.id)

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        # wandb's own step must grow over all stages; each line names its step itself.
        named = {f"{stage}/{name}": value for name, value in values.items()}
        self._run.log({**named, f"{stage}/step": step})

    def close(self) -> None:
        self._run.finish()


def open_writers(
    observation: Observation, config: ExperimentConfig, workdir: Path
) -> tuple[Writer, ...]:
    """The optional ones that were asked for.

    Raises:
        ConfigError: a package is missing.
    """
    writers: list[Writer] = []
    if observation.tensorboard:
        writers.append(_TensorBoard(workdir / "tensorboard"))
    if observation.wandb is not None:
        writers.append(_Wandb(observation.wandb, config, workdir))
    return tuple(writers)


class Profiler:
    """Starts and ends the trace of one stage; `None` does nothing."""

    def __init__(self, profile: Profile | None, folder: Path) -> None:
        self._profile, self._folder = profile, folder
        self._running = False

    def before(self, step: int) -> None:
        """At the beginning of every step."""
        if self._profile is not None and step == self._profile.step:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """At the end of every step, whose `results` are waited for when it is the last."""
        profile = self._profile
        if self._running and profile is not None and step == profile.step + profile.count - 1:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """Ends a trace that a stage's end cut short."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
