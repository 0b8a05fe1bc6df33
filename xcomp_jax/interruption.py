"""Ends a command that receives SIGINT (Ctrl-C) or SIGTERM: cleanup, one line, exit code 130 or 143.

Python raises KeyboardInterrupt only between two of its own instructions, and XLA compiles for
seconds to minutes in C++. A thread therefore watches the signals too. If the main thread does not
return to Python in time, or at a second signal, it ends the child processes and the process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

NATIVE_SECONDS = 3.0
"""Time that the main thread has to return from C++ code, such as a compilation."""

CLEANUP_SECONDS = 30.0
"""Time that the main thread then has to clean up: pending writes may finish."""

REAPED_SECONDS = 2.0
"""Time that helper threads have to delete temporary files once their child process is ended."""

POLL_SECONDS = 0.05

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_VERBS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}


class Terminated(BaseException):
    """Raised in the main thread by SIGTERM, as KeyboardInterrupt is by SIGINT."""


class Watch:
    """Handles SIGINT and SIGTERM for one command of this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._number: int | None = None
        self._raised = threading.Event()
        self._swallowed = False
        self._num_repeated = 0
        self._exiting = threading.RLock()
        self._finished = False
        self._others_received = False
        self._wakeup: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._deadline: threading.Thread | None = None

    @property
    def received(self) -> int | None:
        """Number of the signal that ends the command, if one was received."""
        return self._number

    def start(self) -> None:
        """Installs the handlers and starts the thread; ignored signals stay ignored.

        Shells ignore SIGINT for background jobs of scripts.
        """
        self._wakeup = os.pipe()
        os.set_blocking(self._wakeup[1], False)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._raise)
        atexit.register(self._ignore_signals)  # before other modules do, so that it runs last
        sys.unraisablehook = self._report_unraisable
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and restores the default handlers."""
        assert self._wakeup is not None
        assert self._thread is not None
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) == self._raise:
                signal.signal(number, signal.SIG_DFL)
        atexit.unregister(self._ignore_signals)
        sys.unraisablehook = sys.__unraisablehook__
        os.write(self._wakeup[1], b"\0")
        self._thread.join()
        for file in self._wakeup:
            os.close(file)

    def finish(self, code: int) -> int:
        """Returns `code` at the end of the command, or ends the process if a signal arrived."""
        if self._number is not None:
            self.exit(self._number)
        if self._others_received:
            _exit(code)
        self._finished = True
        return code

    def exit(self, number: int) -> NoReturn:
        """Cleans up, prints the line of signal `number` and ends this process."""
        if not self._exiting.acquire(blocking=False):
            time.sleep(REAPED_SECONDS + CLEANUP_SECONDS)  # another thread ends the process
        if _end_children():
            threads = (self._thread, self._deadline, threading.main_thread())
            _wait_for_helpers([thread for thread in threads if thread is not None])
        _delete_temporary_files()
        with contextlib.suppress(OSError, ValueError):
            line_break = "\n" if sys.stderr.isatty() else ""  # ends the line of a progress bar
            print(f"{line_break}{self._name}: {_VERBS[signal.Signals(number)]}", file=sys.stderr)
        _exit(128 + number)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        """Raises in the main thread at the first signal; the thread handles every other one."""
        if self._finished:
            self._force(number)
        if self._number is not None and not self._swallowed:
            return
        self._number, self._swallowed = number, False
        self._raised.set()
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def _ignore_signals(self) -> None:
        """Ignores signals while the interpreter closes: the work is done, its exit code is known.

        Python would restore the default handlers, which end the process without a line.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _report_unraisable(self, unraisable: Any) -> None:
        """Raises the interruption again where Python had to ignore it, as in a destructor."""
        if not issubclass(unraisable.exc_type, (KeyboardInterrupt, Terminated)):
            sys.__unraisablehook__(unraisable)
            return
        self._swallowed = True
        self._num_repeated += 1
        main = threading.main_thread().ident
        again = threading.Timer(0.05, signal.pthread_kill, (main, self._number))
        again.daemon = True
        again.start()

    def _watch(self) -> None:
        """Ends the process if the main thread cannot."""
        assert self._wakeup is not None
        # A signal delivered here would not wake the main thread from a blocking call.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        while True:
            number = os.read(self._wakeup[0], 1)[0]
            if number == 0:
                return
            if signal.getsignal(number) == self._raise:
                break
            self._others_received = True
        self._deadline = threading.Thread(target=self._enforce, args=(number,), daemon=True)
        self._deadline.start()
        while True:
            second = os.read(self._wakeup[0], 1)[0]
            if second == 0:
                return
            if self._num_repeated == 0:
                self._force(number)
            self._num_repeated -= 1

    def _enforce(self, number: int) -> None:
        if self._raised.wait(NATIVE_SECONDS):
            time.sleep(CLEANUP_SECONDS)
        self._force(number)

    def _force(self, number: int) -> NoReturn:
        threading.excepthook = lambda _: None  # helpers fail once their child process is ended
        self.exit(number)


def _wait_for_helpers(own: Collection[threading.Thread]) -> None:
    """Waits until all threads but `own` have ended, if they do; idle threads of pools do not."""
    deadline = time.monotonic() + REAPED_SECONDS
    while time.monotonic() < deadline and set(threading.enumerate()) - set(own):
        time.sleep(POLL_SECONDS)


def _delete_temporary_files() -> None:
    """Closes open NamedTemporaryFiles, which deletes them: threads may wait without an end."""
    for value in gc.get_objects():
        if type(value) is tempfile._TemporaryFileWrapper:
            with contextlib.suppress(OSError, ValueError):
                value.close()


def _end_children() -> int:
    """Kills the children of this process and returns their number."""
    children = child_processes()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return len(children)


def child_processes() -> list[int]:
    """Returns the ids of this process's children; empty on systems without /proc."""
    tasks = Path("/proc/self/task")
    children = []
    for file in tasks.glob("*/children") if tasks.is_dir() else ():
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            children += [int(number) for number in file.read_text().split()]
    return children


_current: Watch | None = None


def run_command(name: str, run: Callable[[], int]) -> int:
    """Calls `run`, the work of this process, and returns its exit code.

    After SIGINT or SIGTERM it does not return: once `run` has cleaned up, or after a second signal,
    or a few seconds in which it cannot be interrupted, the process prints `name` and the reason in
    one line and ends with 128 + the signal's number.
    """
    global _current
    watch = _current = Watch(name)
    watch.start()
    try:
        code = run()
    except BaseException:
        # Libraries may turn an interruption into another error.
        if watch.received is not None:
            watch.exit(watch.received)
        raise
    return watch.finish(code)


def _exit(code: int) -> NoReturn:
    """Ends the process without Python's finalization, which would crash after an interruption.

    JAX's C++ code can keep the traceback of an interrupted call, and with it modules that it needs
    itself, until these are gone.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def stop_watching() -> Watch | None:
    """Stops the watch of this process, if any, and returns it; a fork must have no threads."""
    if _current is not None:
        _current.stop()
    return _current
