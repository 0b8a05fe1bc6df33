"""Counts XLA compilations and caches compiled programs between processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
"""Recorded for every program, whether it is compiled or read from the cache."""

_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class CompileLog:
    """Counts the programs that this process compiled; take differences to measure a block.

    Programs read from the compilation cache do not count.
    """

    count: int = 0

    def _record_duration(self, event: str, duration_secs: float, **_: object) -> None:
        if event == _COMPILED:
            self.count += 1

    def _record_event(self, event: str, **_: object) -> None:
        if event == _CACHE_HIT:
            self.count -= 1


COMPILATIONS = CompileLog()
# At import, because JAX listeners cannot be removed.
jax.monitoring.register_event_duration_secs_listener(COMPILATIONS._record_duration)
jax.monitoring.register_event_listener(COMPILATIONS._record_event)


def use_compilation_cache(folder: Path) -> None:
    """Caches compiled programs in `folder` for later processes."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too, so that a second process compiles none.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
