"""Renders evidence as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from xcomp_jax.evidence.document import html_document
from xcomp_jax.evidence.record import Evidence
from xcomp_jax.evidence.sections import (
    costs_section,
    settings_section,
    thumbnails_section,
    timeline_section,
)
from xcomp_jax.evidence.style import stylesheet
from xcomp_jax.evidence.wording import escape_html, summary

LONG_QUESTION = 140
"""Characters above which a question is set as a paragraph instead of a headline."""

TITLE_LENGTH = 70


def to_html(evidence: Evidence) -> str:
    """Renders the page. Its content security policy forbids loading or running anything.

    The size is that of the texts and the thumbnails (plus a third for base64), and at most about
    60 kB more, however many frames were sampled.
    """
    parts = [
        _header(evidence),
        timeline_section(evidence),
        thumbnails_section(evidence),
        f'<div class="tables">{costs_section(evidence.costs, evidence.wall_seconds)}'
        f"{settings_section(evidence)}</div>",
    ]
    return html_document(_title(evidence.question), parts, stylesheet())


def _title(question: str) -> str:
    words = " ".join(question.split())
    return words if len(words) <= TITLE_LENGTH else words[: TITLE_LENGTH - 1].rstrip() + "…"


def _header(evidence: Evidence) -> str:
    notes = "".join(f'\n<p class="note">{escape_html(note)}</p>' for note in evidence.notes)
    size = ' class="long"' if len(evidence.question) > LONG_QUESTION else ""
    return f"""<header>
<p class="about"><bdi>{escape_html(evidence.video)}</bdi></p>
<h1 dir="auto"{size}>{escape_html(evidence.question)}</h1>
<div class="reply">
<h2>Answer</h2>
<p class="answer" dir="auto">{escape_html(evidence.answer)}</p>
</div>
<p class="summary">{summary(evidence)}</p>{notes}
</header>"""
