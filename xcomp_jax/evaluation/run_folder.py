"""Defines the folder of a run: `run.json`, the rows of every process, and the reports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xcomp_jax.config import ProtocolConfig, from_dict, to_dict
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.grouping import Shard
from xcomp_jax.evaluation.protocol import departures
from xcomp_jax.evaluation.rows import PATTERN, Row, RowWriter, read_run
from xcomp_jax.files import read_text, write_text
from xcomp_jax.token_store.locks import EXCLUSIVE, locked

RECORD = "run.json"
LOCK = "lock"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Facts that all rows of a run share.

    Attributes:
        benchmark: name of the protocol: a task, or `videomme_subtitles`.
        protocol: the settings as used, including those of flags and the dtype of the devices.
        command: the command that started the run.
    """

    benchmark: str
    data: str
    checkpoint: str
    checkpoint_hash: str
    protocol: ProtocolConfig
    command: str
    version: str
    devices: str


def open_run(folder: Path, record: RunRecord) -> None:
    """Creates a run's folder, or checks that an existing one belongs to the same run.

    Raises:
        DataError: it holds answers of another checkpoint or with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, EXCLUSIVE):
        if (folder / RECORD).is_file():
            _require_same(folder, read_record(folder), record)
        else:
            values = dataclasses.asdict(record) | {"protocol": to_dict(record.protocol)}
            write_text(folder / RECORD, json.dumps(values, indent=2) + "\n")


def read_record(folder: Path) -> RunRecord:
    """Reads `run.json`.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise DataError(f"{folder} has no {RECORD}; pass the --out folder of `xcomp evaluate`")
    try:
        values: dict[str, Any] = json.loads(read_text(path))
        protocol: ProtocolConfig = from_dict(ProtocolConfig, values["protocol"])
        return RunRecord(**values | {"protocol": protocol})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not the record of a run ({error})") from error


def benchmark_folders(run: Path) -> dict[str, Path]:
    """Returns the folders of a run's benchmarks by name.

    Raises:
        DataError: there is none.
    """
    folders = {path.parent.name: path.parent for path in sorted(run.glob(f"*/{RECORD}"))}
    if not folders:
        raise DataError(f"{run} holds no run; pass the --out folder of `xcomp evaluate`")
    return folders


def rows_of(folder: Path) -> dict[str, Row]:
    """Returns the rows of all processes by key; empty before the first."""
    return read_run(folder) if any(folder.glob(PATTERN)) else {}


def latest_rows(rows: Iterable[Row]) -> list[Row]:
    """Returns one row per question: the latest answer, or without an answer the latest failure.

    A question has several rows after its video or its prompt has changed.
    """
    latest: dict[str, Row] = {}
    for row in rows:
        other = latest.get(row.id)
        if other is None or (not row.error, row.time) >= (not other.error, other.time):
            latest[row.id] = row
    return list(latest.values())


@contextmanager
def shard_writer(folder: Path, shard: Shard) -> Iterator[RowWriter]:
    """Opens the rows file of one process.

    Raises:
        DataError: another process is writing it.
    """
    name = f"rows-{shard.index}-of-{shard.count}"
    with locked(folder / f"{name}.lock", EXCLUSIVE, wait=False) as lock:
        if lock is None:
            raise DataError(
                f"another process is writing {folder / name}.jsonl; give each process its own "
                "--shard I/N, or wait for it to end"
            )
        with RowWriter(folder / f"{name}.jsonl") as writer:
            yield writer


def _require_same(folder: Path, old: RunRecord, new: RunRecord) -> None:
    differences = departures(new.protocol, old.protocol)
    if new.checkpoint_hash != old.checkpoint_hash:
        differences.insert(
            0,
            f"checkpoint: {new.checkpoint} with hash {new.checkpoint_hash} instead of "
            f"{old.checkpoint} with hash {old.checkpoint_hash}",
        )
    if differences:
        raise DataError(
            f"{folder} holds answers of another run ({'; '.join(differences)}); choose another "
            "folder with --out"
        )
