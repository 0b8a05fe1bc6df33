"""Tests Ctrl-C and SIGTERM: cleanup, one line and exit code, whatever the process is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.quick import REPO

PROMPT_SECONDS = 20
"""Limit for an exit that takes at most four seconds on an idle machine."""

UNTIL_INTERRUPTED = """
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("cleaned up", flush=True)
"""

UNINTERRUPTIBLE = """
child = subprocess.Popen(["sleep", "60"])
file = tempfile.NamedTemporaryFile()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
# The main thread neither returns from C nor is woken by a signal, as in a compilation.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
print("ready", child.pid, file.name, flush=True)
ctypes.CDLL(None).sleep(60)
"""

SWALLOWED = """
class Destroyed:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)
Destroyed()
time.sleep(60)
"""

TURNED_INTO_ANOTHER_ERROR = """
try:
    print("ready", flush=True)
    time.sleep(60)
except BaseException as error:
    raise ImportError("cannot import") from error
"""

SLOW_CLEANUP = """
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("cleaning", flush=True)
    time.sleep(60)
"""

COMPILING = """
import jax
class Compiler:
    def __init__(self):
        self.program = jax.jit(self.run)
    def run(self, x):
        print("ready", flush=True)
        time.sleep(60)
        return x
Compiler().program(1.0)
"""

AT_EXIT = """
import atexit
atexit.register(lambda: (print("ready", flush=True), time.sleep(60)))
"""

AT_TEARDOWN = """
class Last:
    write, sleep = os.write, time.sleep  # modules are gone by then
    def __del__(self):
        Last.write(1, b"ready\\n")
        Last.sleep(1)
sys.modules["__main__"].last = Last()
"""


def started(work: str, handler: str = "default_int_handler") -> subprocess.Popen[str]:
    """Starts a command that runs `work` and waits until it prints that it is ready."""
    program = "import ctypes, os, signal, subprocess, sys, tempfile, threading, time\n"
    program += "from xcomp_jax.interruption import run_command\n"
    program += f"def run():\n{textwrap.indent(work, '    ')}\n    return 0\n"
    # A suite that runs as a background job ignores SIGINT, and so would its children.
    program += f"signal.signal(signal.SIGINT, signal.{handler})\n"
    program += "sys.exit(run_command('xcomp test', run))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def output_after(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    process.send_signal(number)
    with process:
        try:
            return process.communicate(timeout=PROMPT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "xcomp test: interrupted\n"),
        (signal.SIGTERM, 143, "xcomp test: stopped by SIGTERM\n"),
    ],
)
def test_command_signalled_cleans_up(number: int, code: int, line: str) -> None:
    process = started(UNTIL_INTERRUPTED)
    assert line_of(process) == "ready"
    assert output_after(process, number) == ("cleaned up\n", line)
    assert process.returncode == code


def test_command_in_native_code_ends_with_its_child() -> None:
    process = started(UNINTERRUPTIBLE)
    ready, child, temporary = line_of(process).split()
    assert Path(temporary).exists()
    assert ready == "ready"
    began = time.monotonic()
    assert output_after(process, signal.SIGINT) == ("", "xcomp test: interrupted\n")
    assert time.monotonic() - began < PROMPT_SECONDS
    assert process.returncode == 130
    assert not Path(temporary).exists()
    assert not Path(f"/proc/{child}").exists() or is_zombie(int(child))


def is_zombie(process_id: int) -> bool:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("work", [SWALLOWED, TURNED_INTO_ANOTHER_ERROR])
def test_command_that_swallows_sigint_still_ends(work: str) -> None:
    process = started(work)
    assert line_of(process) == "ready"
    assert output_after(process, signal.SIGINT) == ("", "xcomp test: interrupted\n")
    assert process.returncode == 130


def test_command_in_background_keeps_ignoring_sigint() -> None:
    process = started(UNTIL_INTERRUPTED, handler="SIG_IGN")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGINT)
    expected = ("cleaned up\n", "xcomp test: stopped by SIGTERM\n")
    assert output_after(process, signal.SIGTERM) == expected


def test_command_second_sigint_ends_slow_cleanup() -> None:
    process = started(SLOW_CLEANUP)
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGINT)
    assert line_of(process) == "cleaning"
    assert output_after(process, signal.SIGINT) == ("", "xcomp test: interrupted\n")
    assert process.returncode == 130


def test_command_interrupted_while_tracing_does_not_crash() -> None:
    process = started(COMPILING)
    assert line_of(process) == "ready"
    assert output_after(process, signal.SIGINT) == ("", "xcomp test: interrupted\n")
    assert process.returncode == 130


def test_command_interrupted_after_its_work_ends_quietly() -> None:
    process = started(AT_EXIT)
    assert line_of(process) == "ready"
    assert output_after(process, signal.SIGINT) == ("", "xcomp test: interrupted\n")
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_signalled_while_python_closes_succeeds(number: int) -> None:
    process = started(AT_TEARDOWN)
    assert line_of(process) == "ready"
    assert output_after(process, number) == ("", "")
    assert process.returncode == 0


def test_supervised_command_forwards_sigint_to_child() -> None:
    work = "from xcomp_jax.training.supervise import supervise_child\n"
    work += "code = supervise_child('xcomp test')\nif code is not None:\n    return code\n"
    process = started(work + UNTIL_INTERRUPTED)
    assert line_of(process) == "ready"
    expected = ("cleaned up\n", "xcomp test: interrupted\n")
    assert output_after(process, signal.SIGINT) == expected
    assert process.returncode == 130
