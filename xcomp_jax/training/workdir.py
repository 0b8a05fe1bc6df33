"""The folder of a run: whose it is, and how long it has been worked at. Kept by process 0."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path

from xcomp_jax.config import ConfigError, ExperimentConfig, to_dict
from xcomp_jax.files import read_json, write_json
from xcomp_jax.processes import is_first

# These decide how a run proceeds, not where it ends.
FREE_FIELDS = (
    "mesh",
    "save_every_steps",
    "keep_checkpoints",
    "eval_batch_size",
    "evaluate_every_steps",
)


@contextlib.contextmanager
def owned(workdir: Path, config: ExperimentConfig) -> Iterator[None]:
    """The folder belongs to this process while inside, and to this configuration for good.

    Two processes in one folder would spoil each other's checkpoints.

    Raises:
        ConfigError: it is in use, or was begun with another configuration.
        ValueError: its config.json is damaged.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{workdir} is in use by another running process; wait for it or use another folder"
            ) from None
        _claim(config, workdir)
        yield


def _claim(config: ExperimentConfig, workdir: Path) -> None:
    """Writes config.json, or checks that the folder was begun with the same one."""
    path, mine = workdir / "config.json", to_dict(config)
    if not path.exists():
        write_json(path, mine)
        return
    theirs = read_json(path, remedy="restore it, or begin in another --workdir")
    mine = json.loads(json.dumps(mine))
    for free in FREE_FIELDS:
        mine.pop(free), theirs.pop(free, None)
    if theirs != mine:
        fields = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
        )
        raise ConfigError(
            f"{workdir} holds a run of another configuration (differs in {', '.join(fields)}): "
            "use another --workdir, or the configuration that began it"
        )


class Clock:
    """Wall seconds spent on a run, over all its restarts (what a kill lost is not counted)."""

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
