"""Renders the hardest questions of a run, with the frames chosen for them."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.evaluation.hardest import HardQuestion
from xcomp_jax.evaluation.report_tables import percent
from xcomp_jax.evaluation.scoring import letter_at
from xcomp_jax.evidence.sections import thumbnails_section, timeline_section
from xcomp_jax.evidence.wording import escape_html, frame_count

RULES = """
.hard { border-top: 1px solid var(--line); padding: .625rem 0 }
.hard summary { margin: 0; cursor: pointer; max-width: 46rem }
.hard summary span { display: block; color: var(--muted); font-size: .875rem }
.hard summary:focus-visible, .hard a:focus-visible { outline: 2px solid var(--selected) }
.hard a { color: var(--selected) }
.hard dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem;
  margin: .75rem 0; font-size: .9375rem; max-width: 46rem }
.hard dt { color: var(--muted) }
.hard section { margin-top: 1.25rem }
.hard section > h2 { border: 0; padding: 0; margin-bottom: .5rem }
.hard .frames { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)) }
"""

EXPLANATION = (
    "Wrong answers from the groups with the lowest scores, different videos first. Each shows the "
    "frames that the answer is based on. The full pages are in the folder evidence beside this "
    "file."
)
NO_PICTURES = "No pictures: the video is in an archive, or was moved or changed."


def hardest_html(questions: Sequence[HardQuestion]) -> str:
    """Renders one entry to unfold per question; the first one is open."""
    entries = "\n".join(_entry(entry, is_open=not i) for i, entry in enumerate(questions))
    return f'<p class="note">{EXPLANATION}</p>\n{entries}'


def hardest_lines(questions: Sequence[HardQuestion]) -> list[str]:
    """Lists the questions in Markdown, with links to their evidence pages."""
    return [
        f"- [{entry.question.id}]({entry.page}): {_verdict(entry)} ({_group(entry)})"
        for entry in questions
    ]


def _entry(entry: HardQuestion, *, is_open: bool) -> str:
    evidence = entry.evidence
    selected, sampled = len(evidence.selected_frames), len(evidence.frame_times)
    facts = {
        "right": _option(entry, entry.gold),
        "answered": _option(entry, entry.parsed) or entry.answer,
        "group": _group(entry),
        "frames": f"{selected:,} of {frame_count(sampled)}",
    }
    listed = "".join(
        f'<dt>{name}</dt><dd dir="auto">{escape_html(value)}</dd>' for name, value in facts.items()
    )
    pictures = thumbnails_section(evidence) or f'<p class="note">{NO_PICTURES}</p>'
    return f"""<details class="hard"{" open" if is_open else ""}>
<summary><bdi>{escape_html(entry.question.text)}</bdi>
<span>{escape_html(f"{entry.question.id}: {_verdict(entry)}")}</span></summary>
<dl>{listed}</dl>
<p><a href="{escape_html(entry.page)}">Evidence page of {escape_html(entry.question.id)}</a></p>
{timeline_section(evidence)}
{pictures}
</details>"""


def _verdict(entry: HardQuestion) -> str:
    shown = entry.parsed or " ".join(entry.answer.split())[:40]
    return f"answered {shown or 'nothing'}, right is {entry.gold or 'none of the options'}"


def _group(entry: HardQuestion) -> str:
    return f"{entry.group}, {percent(entry.group_score)}"


def _option(entry: HardQuestion, letter: str) -> str:
    """Returns the text of an option; a span or an unknown letter as it is."""
    for index, option in enumerate(entry.question.options):
        if letter_at(index) == letter:
            return option if letter in option[:2] else f"{letter}: {option}"
    return letter
