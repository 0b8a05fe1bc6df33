"""Prints which program is being compiled, if that takes a while."""

from __future__ import annotations

import sys
import threading
import time

import jax
from tqdm import tqdm

from xcomp_jax.engine.compilation import COMPILE_EVENT
from xcomp_jax.terminal.progress import LINE_SECONDS

TERMINAL_SECONDS = 3.0
"""Seconds before a program is named on a terminal; elsewhere `LINE_SECONDS`."""


class CompileProgress:
    """Prints a line when a program has been compiling for some time, and one when it is ready.

    Programs that compile faster print nothing.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def start(self, event: str, value: float | int, **details: str | int) -> None:
        """Starts to wait for a program; a listener of JAX, called by the thread that compiles."""
        if event != COMPILE_EVENT:
            return
        after = TERMINAL_SECONDS if sys.stderr.isatty() else LINE_SECONDS
        name = str(details.get("fun_name", "a program")).removeprefix("jit(").removesuffix(")")
        line = _Line(name, time.monotonic())
        line.timer = threading.Timer(after, line.show)
        line.timer.daemon = True
        self._thread.line = line
        line.timer.start()

    def stop(self, event: str, duration_secs: float, **details: str | int) -> None:
        """Ends the wait; a listener of JAX."""
        line = getattr(self._thread, "line", None)
        if event == COMPILE_EVENT and line is not None:
            self._thread.line = None
            line.finish()


class _Line:
    """The line about one program. `show` and `finish` come from different threads."""

    timer: threading.Timer

    def __init__(self, name: str, began: float) -> None:
        self._name, self._began = name, began
        self._lock = threading.Lock()
        self._shown = self._finished = False

    def show(self) -> None:
        with self._lock:
            if not self._finished:
                self._shown = True
                _print(f"compiling {self._name} ...")

    def finish(self) -> None:
        self.timer.cancel()
        with self._lock:
            self._finished = True
            if self._shown:
                _print(f"compiled {self._name} in {time.monotonic() - self._began:.0f} s")


def _print(line: str) -> None:
    """Prints above any open progress bar."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


_PROGRESS = CompileProgress()
_registered = threading.Event()


def show_compilations() -> None:
    """Prints slow compilations of this process on stderr from now on."""
    if not _registered.is_set():
        _registered.set()  # JAX listeners cannot be removed, so they are added once
        jax.monitoring.register_scalar_listener(_PROGRESS.start)
        jax.monitoring.register_event_duration_secs_listener(_PROGRESS.stop)
