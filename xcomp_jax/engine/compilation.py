"""Counts XLA compilations and caches compiled programs between processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class CompileLog:
    """Holds compilation totals of this process; take differences to measure a block."""

    count: int = 0
    seconds: float = 0.0

    def _record(self, event: str, duration_secs: float, **_: object) -> None:
        if event == _EVENT:
            self.count += 1
            self.seconds += duration_secs


COMPILATIONS = CompileLog()
# At import, because JAX listeners cannot be removed.
jax.monitoring.register_event_duration_secs_listener(COMPILATIONS._record)


def use_compilation_cache(folder: Path) -> None:
    """Caches compiled programs in `folder` for later processes."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
