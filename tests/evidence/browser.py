"""A headless Chromium driven over its own pipe: nothing to install but the browser."""

from __future__ import annotations

import base64
import contextlib
import glob
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DOWNLOADED = "~/.cache/ms-playwright/chromium*/chrome*/*"
"""Where Playwright keeps a browser that it downloaded."""


def find_chromium() -> str | None:
    installed = (shutil.which(name) for name in NAMES)
    downloaded = glob.glob(str(Path(DOWNLOADED).expanduser()))
    found = [path for path in installed if path]
    found += [path for path in downloaded if Path(path).name in (*NAMES, "headless_shell")]
    return found[0] if found else None


RELAY = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes the program named after two file descriptors, which it finds as its 3 and 4."""

PATIENCE = 60.0
"""Seconds for one answer, on a machine that is busy with other things."""


class Browser:
    """One tab. Messages are JSON that ends in a zero byte, on file descriptors 3 and 4."""

    def __init__(self, executable: str, profile: Path) -> None:
        command_end, self._write = os.pipe()
        self._read, answer_end = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", RELAY, str(command_end), str(answer_end)),
                *(executable, "--headless=new", "--remote-debugging-pipe"),
                # The sandbox needs rights that root in a container lacks; only our page is shown.
                *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(command_end, answer_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_end)
        os.close(answer_end)
        self._unread, self._sent, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        tab = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """Asks it to end, since killed it would leave processes that still write their profile."""
        self._session = ""
        try:
            self.ask("Browser.close")
            self._process.wait(timeout=10)
        finally:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to one command of its DevTools protocol."""
        self._sent += 1
        number = self._sent
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            received = self._receive()
            if received.get("id") == number:
                assert "error" not in received, received
                return received["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, f"the browser said nothing for {PATIENCE:g} s"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has gone"
            self._unread += part
        text, self._unread = self._unread.split(b"\0", 1)
        message = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])
        return message

    def show(
        self,
        page: Path,
        width: int,
        height: int,
        scheme: str,
        *,
        scale: float = 1,
        medium: str = "screen",
    ) -> None:
        """Opens a page, on a phone if it is narrow, and waits until it and its images are there."""
        self.requests.clear()
        self.complaints.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self.ask(
            "Emulation.setEmulatedMedia",
            media=medium,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.ask("Page.navigate", url=page.as_uri())
        self.evaluate(
            "new Promise(done => document.readyState == 'complete' ? done()"
            " : addEventListener('load', done))"
        )

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited, in the page."""
        result = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """PNG of what the window shows, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])


@contextlib.contextmanager
def chromium(executable: str, profile: Path) -> Iterator[Browser]:
    browser = Browser(executable, profile)
    try:
        yield browser
    finally:
        browser.close()
