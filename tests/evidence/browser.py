"""One tab of a headless Chromium: opens pages, evaluates JavaScript, takes screenshots."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.evidence.devtools import DevTools


class Browser:
    """A tab attached to a running browser."""

    def __init__(self, devtools: DevTools) -> None:
        self._devtools = devtools
        tab = devtools.call("Target.createTarget", url="about:blank")["targetId"]
        attached = devtools.call("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    @property
    def requests(self) -> list[str]:
        """URLs requested since the last `show`."""
        return self._devtools.requests

    @property
    def console_errors(self) -> list[str]:
        """Log entries since the last `show`."""
        return self._devtools.console_errors

    def show(
        self,
        page: Path | str,
        width: int,
        height: int,
        scheme: str,
        *,
        scale: float = 1,
        medium: str = "screen",
    ) -> None:
        """Opens a file or URL and waits until it and its images are loaded; narrow screens are
        phones."""
        self.requests.clear()
        self.console_errors.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            media=medium,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.evaluate(
            "new Promise(done => document.readyState == 'complete' ? done()"
            " : addEventListener('load', done))"
        )

    def evaluate(self, expression: str) -> Any:
        """Evaluates a JavaScript expression in the page and awaits its value."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """Returns a PNG of the visible part, or of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the tab by the DevTools protocol."""
        return self._devtools.call(method, self._session, **parameters)


@contextlib.contextmanager
def chromium(executable: str, profile: Path) -> Iterator[Browser]:
    """Runs a browser for the block."""
    devtools = DevTools(executable, profile)
    try:
        yield Browser(devtools)
    finally:
        devtools.close()
