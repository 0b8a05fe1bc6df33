"""A tab on the server's page: waits, presses keys, clicks and chooses files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.evidence.browser import Browser

KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowRight": 39, "Home": 36, " ": 32}


class Tab:
    """Uses the page as a person would: every action is an event of the browser itself."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def value(self, expression: str) -> Any:
        """Evaluates JavaScript in the page."""
        return self.browser.evaluate(expression)

    def texts(self, selector: str) -> list[str]:
        """Returns the texts of all matching elements."""
        return self.value(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)"
        )

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Waits until a JavaScript condition is true."""
        deadline = time.monotonic() + seconds
        while not self.value(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                shown = self.value("document.body.innerText")
                raise AssertionError(f"not true after {seconds:g} s: {condition}\n{shown}")
            time.sleep(0.1)

    def wait_for(self, selector: str, count: int = 1) -> None:
        """Waits until so many elements match."""
        self.wait(f"document.querySelectorAll({json.dumps(selector)}).length >= {count}")

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        code = KEYS.get(key, ord(key[0]))
        event: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def tab_to(self, selector: str, limit: int = 60) -> None:
        """Presses Tab until a matching element has the focus."""
        for _ in range(limit):
            self.press("Tab")
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
        raise AssertionError(f"no {selector} among {limit} stops of the Tab key")

    def write(self, text: str) -> None:
        """Types into the focused field."""
        self.browser.call("Input.insertText", text=text)

    def click(self, selector: str, *, x: float = 0.5) -> None:
        """Clicks a point of an element, at the share `x` of its width."""
        box = self.value(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        point = {"x": box[0] + x * box[2], "y": box[1] + box[3] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.call(
                "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point
            )

    def choose_file(self, selector: str, path: Path) -> None:
        """Chooses a file in a file field."""
        root = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        node = self.browser.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
