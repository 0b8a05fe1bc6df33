"""Tests the page's HTML: well formed, self-contained, and complete."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest

from tests.evidence.examples import HOSTILE, evidence, hostile, jpeg, many_frames, one_frame
from xcomp_jax.evidence import Evidence, Thumbnail, to_html
from xcomp_jax.evidence.wording import UNPRINTABLE

VOID = {"meta", "link", "img"}
EXAMPLES = {
    "plain": evidence(),
    "hostile": hostile(),
    "many frames": many_frames(),
    "one frame": one_frame(),
    "equal scores": evidence(frame_scores=(0.25,) * 64),
    "no finite score": evidence(frame_scores=(math.nan,) * 64),
    "bare": evidence(costs=(), selection={}, thumbnails=(), frame_scores=None),
}
every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())


class Page(HTMLParser):
    """Collects elements with attributes and text in order; fails if tags are not nested."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
        element = (tag, {name: value or "" for name, value in attrs}, list[str]())
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self.open:
            text.append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for name, _, text in self.elements if name == tag]

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


@every_example
def test_to_html_loads_and_runs_nothing(example: Evidence) -> None:
    page = Page(to_html(example))
    assert {tag for tag, _, _ in page.elements}.isdisjoint(
        {"script", "iframe", "object", "a", "base"}
    )
    for _, attributes, _ in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")
    style = page.texts("style")[0]
    assert not re.search(r"url\(|@import|://", style)


@every_example
def test_to_html_policy_allows_only_own_style_and_images(example: Evidence) -> None:
    page = Page(to_html(example))
    policies = [m["content"] for m in page.attributes("meta") if "http-equiv" in m]
    digest = hashlib.sha256(page.texts("style")[0].encode()).digest()
    assert policies == [
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{base64.b64encode(digest).decode()}'; "
        "base-uri 'none'; form-action 'none'"
    ]


@every_example
def test_to_html_has_required_elements(example: Evidence) -> None:
    source = to_html(example)
    page = Page(source)
    assert source.startswith("<!DOCTYPE html>\n")
    assert page.attributes("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in page.attributes("meta")
    assert any(m.get("name") == "viewport" for m in page.attributes("meta"))
    assert [len(page.texts(tag)) for tag in ("title", "main", "h1")] == [1, 1, 1]
    assert page.texts("title")[0].strip()
    assert all(text.strip() for text in page.texts("h2"))
    assert all(image["alt"].startswith("Frame at ") for image in page.attributes("img"))
    assert len(page.attributes("img")) == len(example.thumbnails)
    drawings = [a for a in page.attributes("svg") if a.get("role") == "img"]
    assert len(drawings) == 1
    assert drawings[0]["aria-label"].startswith("Sampled ")


@every_example
def test_to_html_shows_no_nan_or_python_value(example: Evidence) -> None:
    page = Page(to_html(example))
    shown = " ".join(page.texts("main"))
    assert not re.search(r"\b(nan|inf|None|True|False)\b", shown)
    assert "" not in [text.strip() for text in page.texts("section")]


def test_to_html_hostile_texts_are_shown_unchanged() -> None:
    page = Page(to_html(hostile()))
    expected = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", HOSTILE)
    assert page.texts("h1") == [expected]
    assert next(text for text in page.texts("p") if text.startswith("Donau")).endswith(expected)
    assert page.texts("bdi")[0].startswith("clip<b>www")
    assert page.texts("title")[0].startswith("<script>document.title='run'</script>")
    assert page.texts("title")[0].endswith("…")
    assert page.attributes("h1")[0]["dir"] == "auto"


def test_to_html_shows_summary_scores_and_tables() -> None:
    page = Page(to_html(evidence()))
    text = " ".join(page.texts("main"))
    assert "from a video of 1 min 4 s; the answer is based on 16 of them." in text
    assert "0 % is the lowest score, 0.0294, and 100 % the highest, 1 at 0:00:30." in text
    assert "Shows 8 of 16 frames, spread over the video." in text
    assert page.texts("time")[:2] == ["0:00:22", "0:00:24"]
    assert page.texts("span")[4] == "100 %"
    assert page.attributes("img")[4]["alt"] == "Frame at 0:00:30, score 1"
    rows = [re.split(r"\s*\n\s*", row.strip()) for row in page.texts("tr")]
    assert ["encode8 clips1.2 s"] in rows
    assert ["reused from the store6 clips"] in rows
    assert ["wall time (steps overlap)1.3 s"] in rows
    assert ["granularityframe"] in rows
    assert ["modeltiny"] in rows


def test_to_html_without_scores_shows_no_percentage() -> None:
    text = to_html(evidence(frame_scores=None, selected_frames=tuple(range(64))))
    assert "%" not in Page(text).texts("main")[0]
    assert "No frame was scored because all were selected." in text


def test_to_html_missing_scores_are_counted() -> None:
    scores = (math.nan, *(evidence().frame_scores or ())[1:])
    thumbnails = (Thumbnail(0, jpeg()),)
    text = to_html(evidence(frame_scores=scores, selected_frames=(0, 1), thumbnails=thumbnails))
    assert "1 frame without a score." in text
    assert "<span>no score</span>" in text


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (EXAMPLES["equal scores"], "All frames have the same score, 0.25."),
        (EXAMPLES["no finite score"], "No frame has a score."),
        (EXAMPLES["bare"], "No frame was scored."),
    ],
)
def test_to_html_uninformative_scores_are_explained(example: Evidence, words: str) -> None:
    page = Page(to_html(example))
    assert page.texts("figcaption")[0] == words
    assert "%" not in page.texts("main")[0]


def test_to_html_close_frames_have_times_in_tenths() -> None:
    times = tuple(i / 10 for i in range(64))
    assert Page(to_html(evidence(duration=6.4, frame_times=times))).texts("time")[0] == "0:00:02.2"


def test_to_html_many_frames_has_bounded_size() -> None:
    assert len(to_html(many_frames()).encode()) < 150_000
    jpeg_bytes = sum(len(thumbnail.jpeg) for thumbnail in many_frames().thumbnails)
    assert len(to_html(many_frames()).encode()) - 4 / 3 * jpeg_bytes < 80_000


def test_to_html_is_deterministic() -> None:
    assert to_html(evidence()) == to_html(evidence())
