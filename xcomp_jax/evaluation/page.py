"""Renders a run's result as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from xcomp_jax.evaluation.hardest_section import RULES as HARDEST_RULES
from xcomp_jax.evaluation.hardest_section import hardest_html
from xcomp_jax.evaluation.report import Report
from xcomp_jax.evaluation.report_tables import (
    ERROR_NOTE,
    coverage_table,
    mode_table,
    percent,
    protocol_lines,
    published_table,
    rule_note,
    subset_note,
    subtitle_note,
    with_error,
)
from xcomp_jax.evaluation.summary import GroupScore
from xcomp_jax.evidence.document import html_document
from xcomp_jax.evidence.style import stylesheet
from xcomp_jax.evidence.wording import escape_html

RULES = """
.score { font-size: clamp(2rem, 1.4rem + 3vw, 3.25rem); line-height: 1.1; letter-spacing: -.02em }
.warning { border-inline-start: 3px solid var(--selected); padding-inline-start: 1rem }
.warning + .warning { margin-top: .5rem }
.scroll { overflow-x: auto }
.scroll th, .scroll td { white-space: nowrap }
.scroll td:nth-child(6):last-child { white-space: normal; min-width: 14rem }
.scroll img { display: block; max-width: 100%; min-width: 36rem; height: auto }
.groups { columns: 22rem 2; column-gap: 3rem }
.groups div { break-inside: avoid; padding: .25rem 0; font-size: .9375rem }
.groups p { display: flex; justify-content: space-between; gap: 1rem }
.groups span { color: var(--muted); white-space: nowrap }
.groups svg { display: block; width: 100%; height: 6px; background: var(--strip) }
.groups rect { fill: var(--selected) }
.groups .error { fill: var(--scored) }
.protocol { padding-inline-start: 1.25rem }
.protocol li { margin-bottom: .25rem }
pre { white-space: pre-wrap; background: var(--strip); padding: .75rem; font-size: .875rem }
@media print { .groups { columns: 2 } }
"""


def to_html(report: Report) -> str:
    """Renders score, published values, groups and protocol; light and dark, for any width."""
    parts = [
        _header(report),
        _warnings(report.summary.warnings),
        _section(
            "Scores by rule",
            f'{table_html(*mode_table(report))}\n<p class="note">{escape_html(ERROR_NOTE)}</p>',
        ),
        _section("Published values", table_html(*published_table(report)))
        if report.protocol.published
        else "",
        _section("Frames in the annotated span", table_html(*coverage_table(report)))
        if report.summary.covered
        else "",
        _figure(report),
        *(
            _section(f"By {kind.replace('_', ' ')}", _bars(groups))
            for kind, groups in report.headline.groups.items()
            if kind in report.task.report_by
        ),
        _section("Hardest questions", hardest_html(report.hardest)) if report.hardest else "",
        _section("Protocol", _list(protocol_lines(report))),
        _section("Command", f"<pre>{escape_html(report.info.command)}</pre>"),
    ]
    return html_document(report.task.title, parts, stylesheet() + RULES + HARDEST_RULES)


def _header(report: Report) -> str:
    estimate = report.headline.estimate
    low, high = percent(estimate.interval.low), percent(estimate.interval.high)
    missing = report.summary.missing
    incomplete = f" {missing:,} more have no answer yet." if missing else ""
    return f"""<header>
<p class="about">{escape_html(report.task.title)}</p>
<h1 class="score">{percent(estimate.mean)}</h1>
<p class="summary">95 % interval {low} to {high}, by bootstrap over {estimate.videos:,} videos.
{estimate.questions:,} questions{escape_html(subset_note(report))}, scored {rule_note(report)};
{subtitle_note(report)}.{incomplete}</p>
</header>"""


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    lines = "\n".join(f'<p class="warning">{escape_html(text)}.</p>' for text in warnings)
    return _section("Warnings", lines)


def _figure(report: Report) -> str:
    """Embeds the heat map; its numbers are also in the tables by kind of category."""
    if report.figure is None:
        return ""
    alternative = f"Scores of {report.task.title} by length of the haystack"
    return _section("Scores by length", picture_html(report.figure, alternative))


def picture_html(png: bytes, alternative: str) -> str:
    """Embeds a PNG; wide ones scroll on a narrow screen."""
    encoded = base64.b64encode(png).decode()
    image = f'<img alt="{escape_html(alternative)}" src="data:image/png;base64,{encoded}">'
    return f'<div class="scroll" tabindex="0">{image}</div>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape_html(title)}</h2>\n{content}\n</section>"


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Renders a table; the first cell of a row names it."""
    titles = "".join(f'<th scope="col">{escape_html(cell)}</th>' for cell in head)
    lines = "\n".join(
        f'<tr><th scope="row">{escape_html(first)}</th>'
        + "".join(f"<td>{escape_html(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{titles}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _bars(groups: dict[str, GroupScore]) -> str:
    """Draws a bar per group, with its standard error as a grey end."""
    return (
        '<div class="groups">\n'
        + "\n".join(_bar(value, group) for value, group in groups.items())
        + "\n</div>"
    )


def _bar(value: str, group: GroupScore) -> str:
    low = max(0.0, group.mean - group.error)
    high = min(1.0, group.mean + group.error)
    label = f"{with_error(group.mean, group.error)} of {group.questions:,}"
    return (
        f"<div><p>{escape_html(value)} <span>{label}</span></p>"
        '<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="error" x="0" y="0" width="{100 * high:.2f}" height="6"/>'
        f'<rect x="0" y="0" width="{100 * low:.2f}" height="6"/></svg></div>'
    )


def _list(lines: Sequence[str]) -> str:
    items = "\n".join(f"<li>{escape_html(line)}</li>" for line in lines)
    return f'<ul class="protocol">\n{items}\n</ul>'
