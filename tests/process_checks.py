"""Runs in each of two processes; prints what the checks between processes say, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from xcomp_jax.config import ConfigError
from xcomp_jax.convert import hub
from xcomp_jax.processes import connect, on_every, require_equal

COMMITS = ("a" * 40, "b" * 40)


def message_of(check: Callable[[], object]) -> str:
    """Returns the error of `check`, or "" if it raises none."""
    try:
        check()
    except ConfigError as error:
        return str(error)
    return ""


def fail_on_second() -> int:
    """Raises on process 1 only."""
    if jax.process_index() == 1:
        raise FileNotFoundError("no such table")
    return 0


def resolved_commit() -> str | None:
    """Returns the commit of a hub id whose branch moves between the processes' requests."""
    hub._resolve = lambda *_: COMMITS[jax.process_index()]
    hub._download = lambda *_: Path("snapshot")
    return hub.find_source("owner/name").revision


def main() -> None:
    """Connects to the other process and runs all checks in the same order."""
    connect(sys.argv[1], 2, int(sys.argv[2]))
    second = jax.process_index() == 1
    common = {f"field {number}": "1" for number in range(200)}
    results = {
        "equal": message_of(lambda: require_equal(common)),
        "different": message_of(
            lambda: require_equal({**common, "sources": "new" if second else "older"})
        ),
        "absent": message_of(lambda: require_equal({"table": "x"} if second else {})),
        "failed": message_of(lambda: on_every(fail_on_second)),
        "succeeded": on_every(lambda: 7),
        "commit": resolved_commit(),
        "other revision": message_of(
            lambda: hub.find_source("owner/name", "v2" if second else None)
        ),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
