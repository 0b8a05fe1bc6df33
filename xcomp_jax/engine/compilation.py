"""Counts XLA compilations and keeps compiled programs between processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class CompileLog:
    """Running totals of this process; compare them before and after a measurement."""

    count: int = 0
    seconds: float = 0.0

    def _record(self, event: str, duration_secs: float, **_: object) -> None:
        if event == _EVENT:
            self.count += 1
            self.seconds += duration_secs


COMPILATIONS = CompileLog()
# Once per process: JAX cannot remove listeners.
jax.monitoring.register_event_duration_secs_listener(COMPILATIONS._record)


def use_compilation_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, where the next process finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
