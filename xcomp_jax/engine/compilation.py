"""Counts XLA compilations and caches compiled programs between processes."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import jax

from xcomp_jax import account

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
"""Recorded for every program, also for one that is loaded from the cache."""

_LOAD_EVENT = "/jax/compilation_cache/cache_hits"
"""Recorded before `COMPILE_EVENT`, in the same thread, if the program comes from the cache."""


@dataclasses.dataclass
class CompileLog:
    """Holds compilation totals of this process; take differences to measure a block.

    Programs also count as work of the open account: "programs compiled", "programs loaded".

    count: programs compiled; loaded: programs loaded from the cache; seconds: time of both.
    """

    count: int = 0
    loaded: int = 0
    seconds: float = 0.0
    _thread: threading.local = dataclasses.field(default_factory=threading.local, repr=False)

    def _record_load(self, event: str, **_: object) -> None:
        if event == _LOAD_EVENT:
            self._thread.is_load = True

    def _record(self, event: str, duration_secs: float, **_: object) -> None:
        if event != COMPILE_EVENT:
            return
        self.seconds += duration_secs
        if getattr(self._thread, "is_load", False):
            self._thread.is_load = False
            self.loaded += 1
            account.count("programs loaded", 1)
        else:
            self.count += 1
            account.count("programs compiled", 1)


COMPILATIONS = CompileLog()
# At import, because JAX listeners cannot be removed.
jax.monitoring.register_event_listener(COMPILATIONS._record_load)
jax.monitoring.register_event_duration_secs_listener(COMPILATIONS._record)


def use_compilation_cache(folder: Path) -> None:
    """Caches compiled programs in `folder` for later processes."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too, so that a second process compiles none.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
