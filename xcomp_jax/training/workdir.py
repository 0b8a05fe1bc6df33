"""Locks the folder of a run, ties it to one configuration and counts its wall time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path

from xcomp_jax.config import ConfigError, ExperimentConfig, joined_names, to_dict
from xcomp_jax.files import read_json, write_json
from xcomp_jax.processes import is_first

CONFIG_FILE, LOCK_FILE = "config.json", ".lock"

SHOWN = 3
"""Differences that an error names."""

# A run may continue with other values of these: they do not change the final parameters.
FREE_FIELDS = (
    "mesh",
    "save_every_steps",
    "keep_checkpoints",
    "eval_batch_size",
    "evaluate_every_steps",
    "benchmarks",
)


@contextlib.contextmanager
def claim_workdir(workdir: Path, config: ExperimentConfig) -> Iterator[None]:
    """Locks `workdir` for this process inside the block, and for `config` permanently.

    Two processes in one folder would overwrite each other's checkpoints.

    Raises:
        ConfigError: the folder is in use, or holds a run with another configuration.
        ValueError: its config.json is damaged.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{workdir} is in use by another running process; wait for it or use another folder"
            ) from None
        _check_or_write_config(config, workdir)
        yield


def _check_or_write_config(config: ExperimentConfig, workdir: Path) -> None:
    path, values = workdir / CONFIG_FILE, to_dict(config)
    if not path.exists():
        write_json(path, values)
        return
    stored = read_json(path, remedy="restore it, or use another --workdir")
    # A run that ended before it trained, for lack of data for example, ties the folder to nothing.
    is_unused = {entry.name for entry in workdir.iterdir()} <= {LOCK_FILE, CONFIG_FILE}
    if is_unused and stored.keys() == values.keys():  # a file of that name may be a stranger's
        write_json(path, values)
        return
    values = json.loads(json.dumps(values))
    for field in FREE_FIELDS:
        values.pop(field), stored.pop(field, None)
    if stored != values:
        ours, theirs = joined_names(values), joined_names(stored)
        changes = [
            f"{name}: {ours.get(name)!r} instead of {theirs.get(name)!r}"
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        ]
        more = f"; {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise ConfigError(
            f"{workdir} holds a run with another configuration "
            f"({'; '.join(changes[:SHOWN])}{more}); use another --workdir, or the configuration "
            "stored there"
        )


class Clock:
    """Counts the wall seconds of a run over all restarts, excluding what a kill lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = read_json(path)["seconds"] if path.exists() else 0.0
        self._began = time.monotonic()

    def save(self) -> float:
        """Stores and returns the seconds so far."""
        seconds = self._earlier + time.monotonic() - self._began
        if is_first():
            write_json(self._path, {"seconds": seconds})
        return seconds
