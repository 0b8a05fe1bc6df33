"""Tests the lines about slow compilations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from xcomp_jax.engine import compile_progress
from xcomp_jax.engine.compile_progress import show_compilations


def compile_sorts(offset: int) -> None:
    """Compiles a program that takes a moment, another one for every offset."""

    def sorts(x: jax.Array) -> jax.Array:
        for axis in range(8):
            x = jnp.sort(x + axis + offset, axis=axis % 3)
        return x

    jax.jit(sorts).lower(jax.ShapeDtypeStruct((8, 9, 10), jnp.float32)).compile()


def test_slow_compilation_is_named_and_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_compilations()
    show_compilations()  # Listens once.
    monkeypatch.setattr(compile_progress, "LINE_SECONDS", 0.0)
    compile_sorts(1)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "compiling sorts ..."
    assert second.startswith("compiled sorts in ")
    monkeypatch.setattr(compile_progress, "LINE_SECONDS", 600.0)
    compile_sorts(2)  # control: a fast one
    assert capsys.readouterr().err == ""
