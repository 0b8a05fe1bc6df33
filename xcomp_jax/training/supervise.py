"""Supervises a process of a distributed run from a parent process.

JAX aborts a process from C++ when another one is lost or does not join. No Python code runs after
that, and only a stack trace is printed. A distributed run therefore works in a child process; the
parent waits, forwards signals and reports the reason for the exit.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

from xcomp_jax.interruption import SIGNALS, stop_watching

# The same command continues the run: EX_TEMPFAIL of sysexits.h.
EXIT_CONTINUE = 75

# The same command continues the run, but the cause needs a look first: EX_IOERR. Slurm reports the
# highest code of all tasks, so this one must be lower than EXIT_CONTINUE, or a job that cannot
# continue would be requeued.
EXIT_LOST = 74

LOST_PROCESS = (
    "another process of this run was lost or did not join, so this process cannot continue. See "
    "the log of the process that exited first for the cause. Saved checkpoints are intact; start "
    "all processes again with the same command to continue"
)

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def supervise_child(command: str) -> int | None:
    """Forks; returns None in the child, which does the work, and its exit code in the parent.

    Must be called before JAX is imported or threads are started. The parent forwards signals and
    reports on stderr, prefixed with `command`, a child that was ended by a signal.
    """
    # A signal that arrives while neither process has its handlers waits until they have.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    watch = stop_watching()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the death signal was set
            os.kill(os.getpid(), signal.SIGKILL)
        os.setpgid(0, 0)  # a terminal sends Ctrl-C to the parent only, which forwards it
        if watch is not None:
            watch.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return None

    def forward(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    _, status = os.waitpid(child, 0)
    return _report_exit(command, os.waitstatus_to_exitcode(status))


def _report_exit(command: str, code: int) -> int:
    """Returns the parent's exit code for a child's `code`, which is negative after a signal."""
    if code == 128 + signal.SIGTERM:
        return EXIT_CONTINUE
    if code >= 0:
        return code
    if -code == signal.SIGABRT:
        print(f"{command}: {LOST_PROCESS}", file=sys.stderr)
        return EXIT_LOST
    if -code == signal.SIGTERM:
        print(f"{command}: stopped by SIGTERM before the first step", file=sys.stderr)
        return EXIT_CONTINUE
    name = signal.Signals(-code).name
    print(f"{command}: ended by {name}; the same command continues the run", file=sys.stderr)
    return 128 - code
