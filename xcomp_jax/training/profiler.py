"""Traces steps of a training stage with JAX's profiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from xcomp_jax.training.observe import Profile


class Profiler:
    """Starts and stops the trace of one stage; does nothing without a profile."""

    def __init__(self, profile: Profile | None, folder: Path) -> None:
        self._profile, self._folder = profile, folder
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace when `step` is its first; called before every step."""
        if self._profile is not None and step == self._profile.step:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """Waits for `results` and stops the trace when `step` is its last."""
        profile = self._profile
        if self._running and profile is not None and step == profile.step + profile.count - 1:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """Stops a trace that is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
