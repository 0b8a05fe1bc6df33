"""How often and how long XLA compiled: shown to users, asserted in tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class CompileLog:
    """Running totals of this process; read them before and after what is measured."""

    count: int = 0
    seconds: float = 0.0

    def _record(self, event: str, duration_secs: float, **_: object) -> None:
        if event == _EVENT:
            self.count += 1
            self.seconds += duration_secs


COMPILATIONS = CompileLog()
# Once per process: JAX keeps listeners for good.
jax.monitoring.register_event_duration_secs_listener(COMPILATIONS._record)


def use_compilation_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, so that the next process need not compile them again."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
