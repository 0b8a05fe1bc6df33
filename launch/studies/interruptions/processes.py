"""Starts commands, watches what they write, and signals them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HANG_SECONDS = 300
POLL_SECONDS = 0.01
ORPHAN_SECONDS = 5.0
"""Time that child processes of a killed command have to end: their pipes are closed."""

QUICK_COMPILATION = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}
"""Settings of all runs: programs this small compile much longer than they compute."""

Files = dict[str, tuple[int, int]]


@dataclasses.dataclass
class CommandProcess:
    """A running command; its temporary files and output are in `folder`."""

    process: subprocess.Popen[str]
    folder: Path
    before: Files

    @classmethod
    def start(cls, arguments: Sequence[str], folder: Path, cache: Path) -> CommandProcess:
        """Starts `xcomp` with `arguments` in a session of its own."""
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        before = files_of(folder)
        with (folder / "stdout").open("w") as output, (folder / "stderr").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "xcomp_jax.cli.main", *arguments, *_cache(arguments, cache)],
                stdout=output,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env={**os.environ, **QUICK_COMPILATION, "TMPDIR": str(temporary)},
            )
        return cls(process, folder, before)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def num_changes(self) -> int:
        """Counts the files that appeared, changed or disappeared since the start."""
        now = files_of(self.folder)
        return sum(now.get(name) != self.before.get(name) for name in now.keys() | self.before)

    def has_handlers(self) -> bool:
        """Returns whether the command has installed its signal handlers."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
        return False

    def wait(self) -> int:
        """Returns the exit code; kills a process that hangs."""
        try:
            return self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -signal.SIGALRM

    def orphans(self) -> int:
        """Waits for the children that the ended process left, kills and counts the rest."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (remaining := _session(self.process.pid)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for process_id in remaining:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        return len(remaining)

    def errors(self) -> str:
        """Returns what the process wrote to stderr."""
        return (self.folder / "stderr").read_text(errors="replace")


def _cache(arguments: Sequence[str], cache: Path) -> list[str]:
    return [] if arguments[0] == "convert" else ["--cache-dir", str(cache)]


def files_of(folder: Path) -> Files:
    """Returns sizes and modification times of all files but the captured output."""
    files: Files = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                files[os.path.relpath(path, folder)] = (status.st_size, status.st_mtime_ns)
    files.pop("stdout", None)
    files.pop("stderr", None)
    return files


def leftovers(folder: Path) -> list[str]:
    """Lists temporary files and unfinished output."""
    marks = (".partial", "orbax-checkpoint-tmp")
    return sorted(
        name
        for name in files_of(folder)
        if name.startswith("tmp/") or any(mark in name for mark in marks)
    )


def _session(session: int) -> list[int]:
    """Lists the processes of a session; ended ones that nobody waited for do not count."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session_id = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session_id) == session and state != "Z":
                members.append(int(stat.parent.name))
    return members
