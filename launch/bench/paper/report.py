"""Writes a table as Markdown and as a page that loads nothing: our figures beside the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.evaluation.markdown import markdown_table
from xcomp_jax.evaluation.page import RULES, picture_html, table_html
from xcomp_jax.evidence.document import html_document
from xcomp_jax.evidence.style import stylesheet
from xcomp_jax.evidence.wording import escape_html
from xcomp_jax.files import write_bytes, write_text
from xcomp_jax.launch.bench.paper.layouts import Table
from xcomp_jax.launch.bench.paper.scores import (
    SEEDS_FOR_INTERVAL,
    Column,
    claim_interval,
    found_share,
    questions_of,
    row_interval,
)
from xcomp_jax.launch.studies.schedules.claims import Interval

MISSING = "\N{EN DASH}"
SOURCE = "Published: arXiv 2604.14149, in percent."


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with a table of text, sentences, and pictures as (file name, PNG, description)."""

    title: str
    notes: Sequence[str]
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[str, bytes, str]] = ()


def write_table(folder: Path, name: str, title: str, sections: Sequence[Section]) -> Path:
    """Writes table-NAME.md and .html, and the pictures; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for file, content, _ in section.pictures:
            write_bytes(folder / file, content)
    write_text(folder / f"table-{name}.md", _markdown(title, sections))
    path = folder / f"table-{name}.html"
    write_text(path, html_document(title, _parts(title, sections), stylesheet() + RULES.strip()))
    return path


def score_sections(table: Table, columns: Sequence[Column], notes: Sequence[str]) -> list[Section]:
    """Fills the paper's layout: a row per condition, published and own score per benchmark."""
    head = ["", *(f"{name}: published" for name in table.benchmarks)]
    found = [column for column in columns if any(map(found_share, column.results.values()))]
    head += [f"{column.title}: here" for column in columns]
    head += [f"{column.title}: frame found" for column in found]
    rows = [
        [
            row.title,
            *(
                f"{row.published[name]:.1f}" if name in row.published else MISSING
                for name in table.benchmarks
            ),
            *(_score(column, row.cell) for column in columns),
            *(_share(found_share(column.results.get(row.cell, ()))) for column in found),
        ]
        for row in table.rows
    ]
    sections = [Section("Scores", [table.note, SOURCE, *_counts(columns), *notes], head, rows)]
    if table.claims:
        sections.append(_claims(table, columns))
    return sections


def _claims(table: Table, columns: Sequence[Column]) -> Section:
    rows = []
    for claim in table.claims:
        for column in columns:
            difference = claim_interval(claim, table, column.results)
            verdict = MISSING if difference is None else difference.verdict
            text = MISSING if difference is None else _points(difference)
            rows.append([f"{claim.better} > {claim.worse}", column.title, text, verdict])
    note = (
        "Difference in points, paired by question. A claim holds if its whole interval is above "
        "zero, does not hold if it is below, and is undecided otherwise; intervals are not "
        "corrected for the number of claims."
    )
    return Section("Claims", [note], ["claim", "on", "difference", "verdict"], rows)


def _counts(columns: Sequence[Column]) -> list[str]:
    lines = []
    for column in columns:
        cells = [results for results in column.results.values() if results]
        if not cells:
            continue
        seeds = max(map(len, cells))
        source = (
            f"Student's interval over {seeds} seeds"
            if seeds >= SEEDS_FOR_INTERVAL
            else "bootstrap over videos, which leaves out the chance of training"
        )
        chance = "" if column.chance is None else f" Chance is {100 * column.chance:.1f} %."
        lines.append(
            f"{column.title}: {max(map(questions_of, cells)):,} questions; 95 % intervals: "
            f"{source}.{chance}"
        )
    return lines


def _score(column: Column, cell: str) -> str:
    results = column.results.get(cell)
    if not results:
        return MISSING
    score = row_interval(results)
    return f"{100 * score.mean:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _share(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"


def _points(difference: Interval) -> str:
    mean, low, high = (100 * value for value in dataclasses.astuple(difference))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += section.notes
        if section.rows:
            parts.append(markdown_table(section.head, section.rows))
        parts += [f"![{text}]({file})" for file, _, text in section.pictures]
    return "\n\n".join(parts) + "\n"


def _parts(title: str, sections: Sequence[Section]) -> list[str]:
    parts = [f"<header><h1>{escape_html(title)}</h1></header>"]
    for section in sections:
        notes = "\n".join(f'<p class="note">{escape_html(note)}</p>' for note in section.notes)
        content = table_html(section.head, section.rows) if section.rows else ""
        pictures = "\n".join(picture_html(png, text) for _, png, text in section.pictures)
        parts.append(
            f"<section>\n<h2>{escape_html(section.title)}</h2>\n{notes}\n{content}\n{pictures}\n"
            "</section>"
        )
    return parts
