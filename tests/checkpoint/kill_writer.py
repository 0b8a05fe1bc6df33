"""Kills a process that replaces a folder, once at every file operation; run as a module.

    python -m tests.checkpoint.kill_writer FOLDER

FOLDER/out is replaced again and again by a forked child, which kills itself before its first,
second, ... file operation until one run ends by itself. After each, `out` must be complete, and
a further run must leave nothing beside it. Prints the number of kills.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from xcomp_jax.checkpoint import SAVE, new_folder

EVENTS = ("open", "os.", "shutil.", "fcntl.", "ctypes.")
NUM_FILES = 3


def replace(out: Path, text: str) -> None:
    with new_folder(out, SAVE, overwrite=True) as draft:
        for number in range(NUM_FILES):
            (draft / f"{number}.txt").write_text(text)


def content(out: Path) -> str:
    """Returns the text that all files of a complete folder share."""
    (text,) = {path.read_text() for path in sorted(out.glob("?.txt"))}
    assert len(list(out.glob("?.txt"))) == NUM_FILES, sorted(out.iterdir())
    return text


def replace_and_die(out: Path, text: str, operation: int) -> None:
    """Replaces `out` in this process, which is killed before file operation number `operation`."""
    count = 0

    def hook(event: str, _: object) -> None:
        nonlocal count
        if event.startswith(EVENTS):
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    replace(out, text)


def main(folder: Path) -> int:
    out, operation = folder / "out", 0
    replace(out, "0")
    while True:
        operation += 1
        before = content(out)
        child = os.fork()
        if child == 0:
            replace_and_die(out, str(operation), operation)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert content(out) in (before, str(operation)), (operation, content(out))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert content(out) == str(operation)
            break
        if operation % 2:  # Leftovers of one or two killed processes.
            replace(out, "again")
            # Without its id, a lock file is not trusted: the draft is named, not deleted.
            rest = {path.name for path in folder.iterdir()} - {"out"}
            for name in rest:
                assert name.endswith(".lock"), rest
                assert (folder / name).stat().st_size == 0, name
                (folder / name).unlink()
    print(operation - 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
