"""Tests of the report as Markdown and as a page in headless Chromium."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluation.examples import report
from tests.evidence.browser import Browser, chromium
from tests.evidence.devtools import find_chromium
from xcomp_jax.evaluation.markdown import markdown_table, to_markdown
from xcomp_jax.evaluation.page import to_html

EXECUTABLE = find_chromium()


def test_markdown_scores_beside_published() -> None:
    text = to_markdown(report())
    assert text.startswith("# LVBench: 75.0 % (")
    assert "| as published | 75.0 % |" in text
    assert "40 questions on 10 videos, scored by the published rule; 95 % interval" in text
    assert "Errors are standard errors in points" in text
    # 46.2 % of 1,492 questions against 75 % of 40, whose error by video is 0: each has 3 of 4.
    assert re.search(r"\| XComp-2B \| all, 1,492 \| 46\.2 % ± 1\.29 \| 75\.0 % ± 0\.00 \|", text)
    assert "+28.8 (+22.3 errors)" in text
    assert "departures: dtype: bfloat16 instead of float16" in text
    assert "**Warning:** 25% of the answers name no option" in text
    assert "## By question type" in text
    assert "- [q0](evidence/q0.html): answered no idea <b>, right is A (tv, 25.0 %)" in text
    assert "    xcomp evaluate --benchmark lvbench\n" in text


def test_report_names_subset_of_protocol() -> None:
    whole = report()
    protocol = dataclasses.replace(whole.protocol, subset="duration=long")
    for text in (part := dataclasses.replace(whole, protocol=protocol), whole):
        for form in (to_markdown, to_html):
            assert ("40 questions (duration=long only)" in form(text)) == (text is part)
            assert ("only questions with duration=long" in form(text)) == (text is part)


def test_markdown_table_cells_escaped() -> None:
    assert markdown_table(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"


def test_html_texts_escaped_nothing_loaded() -> None:
    page = to_html(report('xcomp evaluate --out "<script>alert(1)</script>"'))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "checkpoints/&lt;xcomp&gt;" in page
    assert "default-src 'none'" in page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if EXECUTABLE is None:
        pytest.skip("no Chromium found (on Debian: apt-get install chromium)")
    with chromium(EXECUTABLE, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desktop"])
def test_page_any_screen_fits_and_shows_all(
    browser: Browser, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(to_html(report("x" * 500)), encoding="utf-8")
    browser.show(path, *size, scheme)
    assert browser.console_errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]
    # Wide tables scroll inside their own box.
    assert browser.evaluate("document.documentElement.scrollWidth") == size[0]
    shown = browser.evaluate("document.body.innerText")
    for words in ("75.0 %", "Published values", "By type", "Warnings", "Command"):
        assert words in shown
    widths = browser.evaluate(
        "[...document.querySelectorAll('.groups rect')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(widths) == 8
    assert all(width > 0 for width in widths)
    for words in ("Hardest questions", "Attention scores over time", "no idea <b>"):
        assert words in shown
    pictures = browser.evaluate(
        "[...document.querySelectorAll('.hard[open] img')].map(e => e.naturalWidth)"
    )
    assert pictures
    assert all(pictures)
    # Folded entries are as narrow as the screen too.
    browser.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    assert browser.evaluate("document.documentElement.scrollWidth") == size[0]
    assert "No pictures" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelector('.hard a').getAttribute('href')") == (
        "evidence/q0.html"
    )
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 23)"
    assert dark == (scheme == "dark")
