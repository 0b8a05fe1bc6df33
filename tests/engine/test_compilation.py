"""Tests that programs loaded from the cache do not count as compiled."""

from __future__ import annotations

import jax

from xcomp_jax.account import Account
from xcomp_jax.engine.compilation import COMPILATIONS

COMPILED = "/jax/core/compile/backend_compile_duration"
LOADED = "/jax/compilation_cache/cache_hits"


def test_compile_log_separates_loaded_programs() -> None:
    before = COMPILATIONS.count
    with Account() as account:
        jax.monitoring.record_event(LOADED)  # JAX reports a loaded program by both events
        jax.monitoring.record_event_duration_secs(COMPILED, 0.0)
        jax.monitoring.record_event_duration_secs(COMPILED, 0.0)
        jax.jit(lambda x: x * 3 + 1)(jax.numpy.arange(5)).block_until_ready()
    assert account.work["programs loaded"] == 1
    assert account.work["programs compiled"] == COMPILATIONS.count - before >= 2
