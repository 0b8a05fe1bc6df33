"""Configures what a run shows while it trains: progress, optional loggers, a profile."""

from __future__ import annotations

import dataclasses
import sys

from tqdm import tqdm

from xcomp_jax.config import ConfigError
from xcomp_jax.processes import is_first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Traces `count` steps of each stage from `step` on with JAX's profiler."""

    step: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Parses `STEP:COUNT`.

        Raises:
            ConfigError: `text` has another form.
        """
        step, _, count = text.partition(":")
        if not (step.isdigit() and count.isdigit() and int(step) >= 1 and int(count) >= 1):
            raise ConfigError(f"profile={text!r} must be STEP:COUNT, such as 20:3 for steps 20-22")
        return cls(step=int(step), count=int(count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """Selects the outputs of a run beside metrics.jsonl, which is always written.

    progress: print each phase and progress bars. tensorboard: write event files to tensorboard/ of
    the workdir. wandb: name of the project to log to.
    """

    progress: bool = True
    tensorboard: bool = False
    wandb: str | None = None
    profile: Profile | None = None

    def announce(self, phase: str) -> None:
        """Prints a phase of the run on stderr, from process 0 and with `progress` only."""
        if self.progress and is_first():
            tqdm.write(phase, file=sys.stderr)  # keeps an open progress bar intact

    def warn(self, problem: str) -> None:
        """Prints a problem that the run survives on stderr, from process 0."""
        if is_first():
            tqdm.write(problem, file=sys.stderr)
