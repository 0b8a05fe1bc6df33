"""Tests the page in headless Chromium, on phone and desktop screens, in light and dark."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.evidence.browser import Browser, chromium
from tests.evidence.devtools import find_chromium
from tests.evidence.examples import evidence, hostile, many_frames, one_frame
from xcomp_jax.evidence import Evidence, to_html, write_evidence

EXAMPLES = {
    "plain": evidence(),
    "hostile": hostile(),
    "many frames": many_frames(),
    "one frame": one_frame(),
}
PHONE, DESKTOP = (390, 844), (1280, 900)
every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
every_screen = pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])

EXECUTABLE = find_chromium()
pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium found (on Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert EXECUTABLE is not None
    with chromium(EXECUTABLE, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(tmp_path: Path, example: Evidence) -> Path:
    path = tmp_path / "answer.html"
    write_evidence(example, path)
    return path


def overflow(browser: Browser) -> int:
    """Returns the pixels by which the widest element exceeds the screen."""
    return browser.evaluate(
        "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth,"
        " ...[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right))"
        " - document.documentElement.clientWidth"
    )


@every_example
@every_screen
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_any_screen_fits_and_shows_everything(
    browser: Browser, page: Path, example: Evidence, size: tuple[int, int], scheme: str
) -> None:
    browser.show(page, *size, scheme)
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.console_errors == []
    assert browser.evaluate("document.documentElement.clientWidth") == size[0]
    assert overflow(browser) <= 0
    sizes = browser.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(sizes) == len(example.thumbnails)
    assert all(sizes)
    shown = browser.evaluate("document.body.innerText")
    for words in ("Answer", "Sampled", "Cost", "Settings"):
        assert words in shown
    assert browser.evaluate("document.title").startswith(example.question[:20])
    image = Image.open(io.BytesIO(browser.screenshot())).convert("L")
    background = image.getpixel((2, 2))
    assert background > 240 if scheme == "light" else background < 30
    darkest, lightest = image.getextrema()
    assert lightest - darkest > 180  # text has contrast


@pytest.mark.parametrize("example", [evidence()], ids=["plain"])
def test_page_first_phone_screen_has_answer_and_timeline(browser: Browser, page: Path) -> None:
    browser.show(page, *PHONE, "light")
    for selector in ("h1", ".answer", ".summary", ".timeline"):
        bottom = browser.evaluate(
            f"document.querySelector('{selector}').getBoundingClientRect().bottom"
        )
        assert 0 < bottom <= PHONE[1]


@pytest.mark.parametrize("example", [evidence()], ids=["plain"])
def test_thumbnails_keep_aspect_ratio_in_columns(browser: Browser, page: Path) -> None:
    for size, columns in ((PHONE, 2), (DESKTOP, 6)):
        browser.show(page, *size, "light")
        boxes = browser.evaluate(
            "[...document.images].map(i => i.getBoundingClientRect())"
            ".map(b => [b.left, b.width / b.height])"
        )
        assert len({left for left, _ in boxes}) == columns
        assert all(ratio == pytest.approx(16 / 9, rel=0.02) for _, ratio in boxes)


@pytest.mark.parametrize(
    "example",
    [evidence(duration=seconds) for seconds in (63.0, 68.0, 90.0, 3599.0, 36_001.0)]
    + [evidence(duration=2.5, frame_times=tuple(i / 26 for i in range(64)))],
    ids=lambda example: f"{example.duration:g}s",
)
def test_axis_labels_on_phone_do_not_touch(browser: Browser, page: Path) -> None:
    browser.show(page, *PHONE, "light")
    boxes = browser.evaluate(
        "[...document.querySelectorAll('.timeline text')].map(t => t.getBoundingClientRect())"
        ".map(b => [b.left, b.right])"
    )
    assert len(boxes) >= 3
    assert all(right + 6 <= left for (_, right), (left, _) in itertools.pairwise(boxes))


@pytest.mark.parametrize("example", [evidence()], ids=["plain"])
def test_page_printed_in_dark_scheme_is_light(browser: Browser, page: Path) -> None:
    browser.show(page, *DESKTOP, "dark", medium="print")
    color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert color == "rgb(252, 252, 251)"


def test_browser_forbidden_content_is_reported(browser: Browser, tmp_path: Path) -> None:
    """Control: the tests above would also pass in a browser that reports nothing."""
    bad = (
        "<script>document.title = 'run'</script><img src='https://x.example/a.png'>"
        "<p style='width: 3000px'>wide</p><table><td style='color:red'><pre>" + "w" * 999 + "</pre>"
    )
    page = tmp_path / "bad.html"
    page.write_text(to_html(evidence()).replace("</main>", f"{bad}</main>"), "utf-8")
    browser.show(page, *PHONE, "light")
    assert browser.evaluate("document.title") == evidence().question
    assert overflow(browser) > 1000
    log = " ".join(browser.console_errors)
    assert "script" in log
    assert "x.example" in log
    assert "inline style" in log
