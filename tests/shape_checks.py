"""Checks of array shapes in the signatures of public functions, while the tests run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import install_import_hook

CHECKED_PACKAGES = ["models", "ops", "compression", "engine", "selection"]

# An int is a float here, as it is for mypy.
CONFIG = BeartypeConf(is_pep484_tower=True)


def install_shape_checks() -> None:
    """Checks public functions of modules that are imported from now on."""
    install_import_hook(
        [f"xcomp_jax.{name}" for name in CHECKED_PACKAGES], "tests.shape_checks.checked"
    )


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Checks the types of arguments and results of a public function; jaxtyping calls it.

    Nested functions are left out, because the checks are compiled anew at every definition, and so
    are constructors, because JAX builds pytrees of leaves that are no arrays.
    """
    name, public = function.__name__, not function.__name__.startswith("_")
    if "<locals>" in function.__qualname__ or not (public or name == "__call__"):
        return function
    check = beartype(function, conf=CONFIG)

    @functools.wraps(function)
    def check_arrays(*args: Any, **kwargs: Any) -> Any:
        try:
            return check(*args, **kwargs)
        except BeartypeCallHintViolation:
            return check(*_as_jax_arrays(args), **_as_jax_arrays(kwargs))

    return check_arrays


def _as_jax_arrays(values: Any) -> Any:
    """Converts NumPy arrays, which JAX accepts wherever an array is annotated."""
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, values)
