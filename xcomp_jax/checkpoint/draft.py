"""Creates a folder atomically: complete under its final name, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from xcomp_jax.checkpoint.read import CONFIG_FILE
from xcomp_jax.checkpoint.tree import CheckpointError


@contextlib.contextmanager
def new_folder(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a draft folder beside `target`, renamed to `target` when the block succeeds.

    If the block raises, the draft is deleted. A killed process leaves a folder
    `.NAME.partial-...`, which can be deleted. Every process of a run calls this.

    Raises:
        CheckpointError: `target` exists; with `overwrite`, only if it is not a checkpoint (has no
            config.json), so that a mistyped path never deletes anything else.
    """
    target = Path(target).absolute()
    check_free(target, overwrite=overwrite)
    draft = target.with_name(f".{target.name}.partial-{_shared_token()}")
    is_first = jax.process_index() == 0
    try:
        if is_first:
            draft.mkdir(parents=True)
        _barrier("draft")
        yield draft
        _barrier("written")
        if is_first:
            _rename(draft, target)
        _barrier("named")
    finally:
        if is_first:
            shutil.rmtree(draft, ignore_errors=True)


def check_free(target: Path, *, overwrite: bool) -> None:
    """Raises CheckpointError unless `new_folder` may create or overwrite `target`."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise CheckpointError(
            f"{target}: exists already; choose another name, or replace it (`xcomp convert "
            "--force`, in Python overwrite=True)"
        )
    if not (target / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"{target}: not overwritten, because it has no {CONFIG_FILE} and is no checkpoint"
        )


def _rename(draft: Path, target: Path) -> None:
    if not target.exists():
        draft.rename(target)
        return
    old = draft.with_name(draft.name + ".old")
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def _shared_token() -> str:
    """Draws a random name that is the same on every process."""
    token = np.uint32(secrets.randbits(32))
    if jax.process_count() > 1:
        token = multihost_utils.broadcast_one_to_all(token)
    return f"{int(token):08x}"


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {name}")
