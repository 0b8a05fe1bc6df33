"""Tests the page in headless Chromium against the server of `xcomp demo`."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.evidence.browser import chromium
from tests.evidence.devtools import find_chromium
from tests.serving.page_browser import Tab
from tests.serving.server import running_server
from xcomp_jax.demo import demo_videos

EXECUTABLE = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        EXECUTABLE is None, reason="no Chromium found (on Debian: apt-get install chromium)"
    ),
]
DESKTOP, PHONE = (1280, 900), (390, 844)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running demo."""
    cache = tmp_path_factory.mktemp("cache")
    command = [sys.executable, "-m", "xcomp_jax.cli.main", "demo", "--port", "0"]
    with subprocess.Popen(
        [*command, "--cache-dir", str(cache)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        found = re.match(r"Open (http://\S+) ", server.stdout.readline())
        assert found is not None
        yield found[1]
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert EXECUTABLE is not None
    with chromium(EXECUTABLE, tmp_path_factory.mktemp("profile")) as browser:
        yield Tab(browser)


def open_page(tab: Tab, url: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
    """Opens the page without history, with the first video watched."""
    tab.browser.show(url, *size, scheme)
    tab.value("localStorage.clear()")
    tab.browser.show(url, *size, scheme)
    tab.wait_for(".videos li", 3)
    rows = "[...document.querySelectorAll('.choose')]"
    tab.value(f"{rows}.find(row => row.textContent.includes('Evening')).click()")
    tab.wait("document.querySelector('#facts').textContent.includes('frames')")


def assert_clean(tab: Tab, url: str) -> None:
    """Checks that nothing was reported and no other host was contacted."""
    assert tab.browser.console_errors == []
    requests = [address for address in tab.browser.requests if not address.startswith("data:")]
    assert requests
    assert all(address.removeprefix("blob:").startswith(url) for address in requests)


def test_demo_answers_its_questions(url: str) -> None:
    with urllib.request.urlopen(f"{url}/v1/videos", timeout=60) as listing:
        ids = {video["name"]: video["id"] for video in json.load(listing)["data"]}
    wrong = []
    for video in demo_videos():
        for question in video.questions:
            text = answer_of(url, ids[video.title], question.text)
            if text != question.answer:
                wrong.append((video.title, question, text))
    # Without the video, about half can be right (test_demo_questions_need_the_video).
    assert not wrong


def answer_of(url: str, video: str, question: str) -> str:
    """Asks a question by the API."""
    part = {"type": "video_url", "video_url": {"url": f"xcomp://{video}"}}
    content = [part, {"type": "text", "text": question}]
    body = {"model": "xcomp-demo", "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def test_page_keyboard_only_asks_jumps_and_compares(tab: Tab, url: str) -> None:
    open_page(tab, url)
    questions = demo_videos()[0].questions
    tab.press("/")
    for count, question in enumerate(questions[:2], start=1):
        tab.write(question.text)
        tab.press("Enter")
        tab.wait_for(".cost", count)
        tab.wait(f"document.activeElement.id == 'question' && {count}")
    answers = [question.answer for question in reversed(questions[:2])]
    assert tab.texts(".answer") == answers
    assert tab.value("document.querySelector('#announcer').textContent") == f"Answer: {answers[0]}"
    tab.tab_to(".track")
    tab.press("Home")
    for _ in range(5):
        tab.press("ArrowRight")
    tab.wait("Math.abs(document.querySelector('video').currentTime - 5) < 0.1")
    tab.tab_to(".frames button")
    label = tab.value("document.activeElement.getAttribute('aria-label')")
    tab.press("Enter")
    minutes, seconds = map(float, label.removeprefix("Jump to ").split(":"))
    moment = 60 * minutes + seconds
    tab.wait(f"Math.abs(document.querySelector('video').currentTime - {moment}) < 0.15")
    tab.tab_to(".compare-toggle")
    tab.press("Enter")
    tab.tab_to(".compare-toggle")
    tab.press("Enter")
    tab.wait_for(".compare .curve", 2)
    assert tab.texts(".compare .answer") == answers
    assert_clean(tab, url)


def test_page_answer_shows_the_moment_it_comes_from(tab: Tab, url: str) -> None:
    open_page(tab, url)
    tab.click(".samples li:nth-child(2) .chip")  # the ring
    tab.wait_for(".frames img", 8)
    tab.wait("[...document.querySelectorAll('.frames img')].every(i => i.complete)")
    times = [text.strip() for text in tab.texts(".frames span")]
    # Most frames are those of the generated ring, which lasts from 9 s to 10.5 s.
    assert sum(time.startswith(("0:09", "0:10")) for time in times) >= 4
    assert len(set(times)) == len(times)
    tab.click(".track", x=0.8)
    tab.wait("Math.abs(document.querySelector('video').currentTime - 24) < 0.5")


def test_page_follow_up_and_history_survive_reload(tab: Tab, url: str) -> None:
    open_page(tab, url)
    tab.click(".samples li:nth-child(1) .chip")
    tab.wait_for(".cost")
    tab.click(".follow input")
    tab.write("What color is the circle?")
    tab.press("Enter")
    tab.wait_for(".cost", 2)
    answers = tab.texts(".answer")
    assert answers[0] == "yellow"
    tab.browser.show(url, *DESKTOP, "light")
    tab.wait_for(".cost", 2)
    assert tab.texts(".answer") == answers
    tab.click("#forget")
    tab.wait("document.querySelector('#confirm-dialog').open")
    tab.press("Escape")
    assert len(tab.texts(".card")) == 1
    tab.click("#forget")
    tab.click("#confirm-ok")
    tab.wait("!document.querySelector('.card')")
    assert tab.value("localStorage.getItem('xcomp.history')") is None
    assert_clean(tab, url)


def test_page_uploads_watches_and_deletes_video(tab: Tab, url: str, tmp_path: Path) -> None:
    open_page(tab, url, PHONE)
    before = len(tab.texts(".videos li"))
    path = tmp_path / "<b>holiday<b>.mp4"
    path.write_bytes(demo_videos()[1].path.read_bytes())
    tab.choose_file("#file", path)
    tab.wait("document.querySelector('#facts strong')?.textContent.includes('holiday')")
    # Asked while the video is watched, and answered once it is.
    tab.value("document.querySelector('#question').focus()")
    tab.write("What color is the circle?")
    tab.press("Enter")
    tab.wait_for(".cost")
    assert tab.texts(".answer") == ["red"]
    assert tab.value("document.querySelector('#facts b')") is None
    assert tab.value(OVERFLOW) == 0
    # Before the deletion, after which thumbnails out of view may still be requested.
    assert_clean(tab, url)
    tab.click(".videos li .delete")
    tab.wait("document.querySelector('#confirm-dialog').open")
    tab.click("#confirm-ok")
    tab.wait("document.querySelectorAll('.videos li').length == " + str(before))


def test_page_unplayable_file_says_so_and_shows_frames(tab: Tab, url: str, tmp_path: Path) -> None:
    open_page(tab, url)
    pictures = [Image.new("RGB", (64, 36), (10 * i, 30, 60)) for i in range(16)]
    path = tmp_path / "old.gif"  # a format that XComp reads and no <video> plays
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=250)
    tab.choose_file("#file", path)
    tab.wait_for("#still")
    tab.wait("document.querySelector('#still').naturalWidth > 0")
    assert "cannot play" in tab.texts(".note")[0]


def test_page_broken_file_is_explained(tab: Tab, url: str, tmp_path: Path) -> None:
    open_page(tab, url)
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    tab.choose_file("#file", path)
    tab.wait(
        "!document.querySelector('#banner').hidden || document.querySelector('.watching.failed')"
    )
    shown = " ".join(tab.texts("#banner") + tab.texts("#progress-text"))
    assert "notes.mp4: the file is truncated, damaged, or not a video" in shown
    assert "Traceback" not in shown
    tab.wait("!document.querySelector('#screen').childElementCount")  # no promise that it works


def test_page_reduced_motion_and_forced_colors_apply(tab: Tab, url: str) -> None:
    open_page(tab, url)

    def style(selector: str, name: str) -> str:
        return str(tab.value(f"getComputedStyle(document.querySelector('{selector}')).{name}"))

    add = "document.body.insertAdjacentHTML('beforeend', '<p class=dots><i></i></p>')"
    tab.value(add)
    assert style(".dots i", "animationName") != "none"
    assert style(".choose[aria-current]", "borderTopStyle") == "none"
    features = [
        {"name": "prefers-reduced-motion", "value": "reduce"},
        {"name": "forced-colors", "value": "active"},
    ]
    tab.browser.call("Emulation.setEmulatedMedia", media="", features=features)
    assert style(".dots i", "animationName") == "none"
    assert style(".choose[aria-current]", "borderTopStyle") == "solid"


def test_page_asks_for_key_until_it_is_right(tab: Tab, tmp_path: Path) -> None:
    key = "k" * 32
    (tmp_path / "keys.txt").write_text(key)
    options = ("--api-key-file", str(tmp_path / "keys.txt"))
    with running_server(tmp_path / "keyed", *options, key=key) as server:
        tab.browser.show(server.url, *PHONE, "light")
        tab.wait("document.querySelector('#key-dialog').open")
        tab.wait("document.activeElement.id == 'key'")
        assert tab.value(OVERFLOW) == 0
        requests = "performance.getEntriesByType('resource').length"
        time.sleep(1)  # until the page has loaded and waits for the key
        sent = tab.value(requests)
        for _ in range(3):
            tab.press("Escape")
        time.sleep(0.5)
        tab.wait("document.querySelector('#key-dialog').open")
        assert tab.value(requests) == sent, "Escape sent a request without a key"
        tab.write("not the key")
        tab.press("Enter")
        tab.wait("document.querySelector('#key-text').textContent.includes('did not accept')")
        tab.wait("document.querySelector('#key-dialog').open")
        tab.write(key)
        tab.press("Enter")
        tab.wait("document.querySelector('#model').textContent")
        assert not tab.value("document.querySelector('#key-dialog').open")
        # Only this tab knows the key.
        assert key not in tab.value("JSON.stringify(localStorage)")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_any_screen_fits_with_contrast(
    tab: Tab, url: str, size: tuple[int, int], scheme: str
) -> None:
    open_page(tab, url, size, scheme)
    assert tab.value(OVERFLOW) == 0
    image = Image.open(io.BytesIO(tab.browser.screenshot())).convert("L")
    background = image.getpixel((2, 2))
    assert background > 240 if scheme == "light" else background < 30
    chosen = {"light": "dark", "dark": "light"}[scheme]
    while tab.value("document.documentElement.dataset.theme") != chosen:
        tab.click("#theme")
    image = Image.open(io.BytesIO(tab.browser.screenshot())).convert("L")
    background = image.getpixel((2, 2))
    assert background < 30 if scheme == "light" else background > 240
    assert tab.value("localStorage.getItem('xcomp.theme')") == chosen
    assert_clean(tab, url)
