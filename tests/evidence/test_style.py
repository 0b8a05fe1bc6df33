"""Tests the contrast of the page's colours in light and dark (WCAG 2.2 AA)."""

from __future__ import annotations

import re

import pytest

from tests.evidence.examples import evidence
from xcomp_jax.evidence import to_html

TEXT, SHAPES = 4.5, 3.0


def schemes() -> list[dict[str, str]]:
    """Returns the colour variables that the page declares for light and dark."""
    blocks = re.findall(r":root \{ ([^}]*) \}", to_html(evidence()))
    return [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(c * weight for c, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(front: str, back: str) -> float:
    low, high = sorted((luminance(front), luminance(back)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_formula_known_values() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "minimum"),
    [
        ("text", "background", TEXT),
        ("muted", "background", TEXT),
        ("selected", "background", SHAPES),
        ("scored", "background", SHAPES),
        ("selected", "strip", SHAPES),
    ],
)
def test_colors_have_minimum_contrast(scheme: int, front: str, back: str, minimum: float) -> None:
    colors = schemes()[scheme]
    assert contrast(colors[front], colors[back]) >= minimum


def test_stylesheet_uses_only_declared_colors() -> None:
    light, dark = schemes()
    assert light.keys() == dark.keys()
    style = re.sub(
        r":root \{[^}]*\}", "", re.findall(r"<style>(.*)</style>", to_html(evidence()), re.S)[0]
    )
    assert not re.search(r"#[0-9a-fA-F]{3}|rgb|hsl", style)
    assert set(re.findall(r"var\(--(\w+)\)", style)) == light.keys()
