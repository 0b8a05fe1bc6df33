"""Reports a damaged Orbax checkpoint as one readable error."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from xcomp_jax.config import ConfigError
from xcomp_jax.processes import is_lost_process_error

_NEVER_STARTED = r"coroutine '\w*(read|write|serialize)\w*' was never awaited"
"""Python's warning of a transfer of Orbax that had not begun when another one failed."""


@contextlib.contextmanager
def damage_as_config_error(folder: Path) -> Iterator[None]:
    """Turns the errors of a failed restore from `folder` into a ConfigError.

    The loss of another process is no damage; its error passes unchanged.
    """
    try:
        yield
    except Exception as error:
        if is_lost_process_error(error):
            raise
        reason = str(error).partition("\n")[0][:200]
        raise damaged_checkpoint(folder, f"{type(error).__name__}: {reason}") from error


def damaged_checkpoint(folder: Path, damage: str) -> ConfigError:
    """Returns the error about a damaged checkpoint, with the remedy."""
    return ConfigError(
        f"the checkpoint {folder} is damaged or belongs to another run ({damage}); remove that "
        "folder to continue from the checkpoint before it"
    )


@functools.cache
def ignore_late_transfers() -> None:
    """Drops the errors of reads and writes that are cut off by a failed restore or save.

    Orbax closes its event loop at the first error, while threads are still transferring other
    arrays, and some have not begun. Python would print a traceback or a warning for each of them
    and hide the error that matters.
    """
    warnings.filterwarnings("ignore", _NEVER_STARTED, RuntimeWarning)
    previous = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        is_closed = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        is_cut_off = error is not None and isinstance(error.__cause__, GeneratorExit)
        # Reaches this hook where warnings are errors.
        is_warning = isinstance(error, RuntimeWarning) and re.match(_NEVER_STARTED, str(error))
        if not (is_closed or is_cut_off or is_warning):
            previous(unraisable)

    sys.unraisablehook = hook
