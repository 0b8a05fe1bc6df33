"""Starts headless Chromium and speaks its DevTools protocol over a pipe."""

from __future__ import annotations

import glob
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PLAYWRIGHT = "~/.cache/ms-playwright/chromium*/chrome*/*"
"""Location of a browser downloaded by Playwright."""

RELAY = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Moves two file descriptors to 3 and 4, where the browser expects them, and executes it."""

TIMEOUT = 60.0
"""Seconds to wait for one reply, enough for a busy machine."""


def find_chromium() -> str | None:
    """Returns the path of an installed Chromium or Chrome; None if there is none."""
    installed = (shutil.which(name) for name in NAMES)
    downloaded = glob.glob(str(Path(PLAYWRIGHT).expanduser()))
    paths = [path for path in installed if path]
    paths += [path for path in downloaded if Path(path).name in (*NAMES, "headless_shell")]
    return paths[0] if paths else None


class DevTools:
    """A browser process and its message pipe. Messages are JSON followed by a zero byte.

    Attributes:
        requests: URLs that pages requested.
        console_errors: texts of the browser's log, and uncaught exceptions.
    """

    def __init__(self, executable: str, profile: Path) -> None:
        command_end, self._write = os.pipe()
        self._read, reply_end = os.pipe()
        self._process = _start(executable, profile, command_end, reply_end)
        os.close(command_end)
        os.close(reply_end)
        self._buffer, self._count = b"", 0
        self.requests: list[str] = []
        self.console_errors: list[str] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Sends one command and returns its result."""
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == number:
                assert "error" not in reply, reply
                return reply["result"]

    def close(self) -> None:
        """Closes the browser by command; a kill would leave children that write the profile."""
        try:
            self.call("Browser.close")
            self._process.wait(timeout=10)
        finally:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def _receive(self) -> dict[str, Any]:
        """Reads the next message and records requests and log entries."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], TIMEOUT)
            assert ready, f"no reply from the browser for {TIMEOUT:g} s"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has exited"
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.console_errors.append(message["params"]["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.console_errors.append(str(message["params"]["exceptionDetails"]))
        return message


def _start(
    executable: str, profile: Path, command_end: int, reply_end: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-c", RELAY, str(command_end), str(reply_end)),
            *(executable, "--headless=new", "--remote-debugging-pipe"),
            # Root in a container cannot use the sandbox; only the page under test is opened.
            *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"),
        ],
        pass_fds=(command_end, reply_end),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
