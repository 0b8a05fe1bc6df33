"""Formats the result of a run as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.evaluation.hardest_section import hardest_lines
from xcomp_jax.evaluation.report import Report
from xcomp_jax.evaluation.report_tables import (
    ERROR_NOTE,
    coverage_table,
    group_table,
    mode_table,
    percent,
    protocol_lines,
    published_table,
    rule_note,
    subset_note,
    subtitle_note,
)

FIGURE = "heat_map.png"
"""File of `Report.figure`, beside the report."""


def to_markdown(report: Report) -> str:
    """Formats scores, published values, groups and protocol as Markdown."""
    estimate = report.headline.estimate
    interval = f"{percent(estimate.interval.low)} to {percent(estimate.interval.high)}"
    parts = [
        f"# {report.task.title}: {percent(estimate.mean)} ({interval})",
        f"{estimate.questions:,} questions{subset_note(report)} on {estimate.videos:,} videos, "
        f"scored {rule_note(report)}; 95 % interval by bootstrap over videos; "
        f"{subtitle_note(report)}.",
        *(f"**Warning:** {warning}." for warning in report.summary.warnings),
        markdown_table(*mode_table(report)),
        ERROR_NOTE,
        markdown_table(*published_table(report)) if report.protocol.published else "",
        markdown_table(*coverage_table(report)) if report.summary.covered else "",
        "" if report.figure is None else f"![scores by length]({FIGURE})",
        *(
            f"## By {kind.replace('_', ' ')}\n\n" + markdown_table(*group_table(kind, groups))
            for kind, groups in report.headline.groups.items()
            if kind in report.task.report_by
        ),
        "## Hardest questions\n\n" + "\n".join(hardest_lines(report.hardest))
        if report.hardest
        else "",
        "## Protocol\n\n" + "\n".join(f"- {line}" for line in protocol_lines(report)),
        f"    {report.info.command}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
