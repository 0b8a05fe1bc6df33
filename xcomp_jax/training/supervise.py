"""A parent that outlives its process, for runs of several.

JAX ends a process from C++ when it hears that another was lost, or when not all of them come to
meet: nothing of Python runs any more, and what is left on the screen is a stack trace. A run of
several processes therefore works in a child; the parent only waits, passes signals on and says what
happened.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

# Started again with the same command, the run continues: EX_TEMPFAIL of sysexits.h.
EXIT_CONTINUE = 75

# The same, but first somebody should look why: lower, for of several tasks' codes Slurm tells the
# highest, and must not put a run that cannot go on back into the queue. EX_IOERR.
EXIT_LOST = 74

LOST = (
    "another process of this run was lost, or never came, so that this one cannot go on; the log "
    "of the one that went first says why. Nothing that was saved is lost: start all of them again "
    "with the same command, and they go on from what was saved"
)

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def watch_over_child(command: str) -> int | None:
    """Forks. The child gets None and does the work; the parent gets the exit code to end with.

    Called before JAX or threads are started. A child ended by a signal of its own is told about on
    stderr, as `command`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the line above
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child as well
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    if -code == signal.SIGABRT:
        print(f"{command}: {LOST}", file=sys.stderr)
        return EXIT_LOST
    if -code == signal.SIGTERM:
        print(f"{command}: stopped by SIGTERM before anything was done", file=sys.stderr)
        return EXIT_CONTINUE
    name = signal.Signals(-code).name
    print(f"{command}: ended by {name}; the same command continues the run", file=sys.stderr)
    return 128 - code
