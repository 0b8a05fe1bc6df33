"""The sections of the evidence page as HTML: timeline, selected frames, cost, settings."""

from __future__ import annotations

import base64
import math

from xcomp_jax.evidence.record import Cost, Evidence, Thumbnail
from xcomp_jax.evidence.scale import scale_of
from xcomp_jax.evidence.timeline import timeline
from xcomp_jax.evidence.wording import (
    clock,
    clock_decimals,
    duration_text,
    escape_html,
    frame_count,
    percent,
    score_text,
    setting_text,
    summary,
)


def timeline_section(evidence: Evidence) -> str:
    """Renders the timeline with its key and an explanation of the scores."""
    scale, all_selected = scale_of(evidence.frame_scores), _all_selected(evidence)
    title = "Attention scores over time" if scale else "Frames over time"
    explanation = _explain_scores(evidence)
    key = ["<li>selected</li>"]
    if scale and not all_selected:
        key.append('<li class="scored">scored, not selected</li>')
    return f"""<section>
<h2>{title}</h2>
<figure>
<ul class="key">{"".join(key)}</ul>
{timeline(evidence, f"{summary(evidence)} {explanation}")}
<figcaption class="note">{explanation}</figcaption>
</figure>
</section>"""


def thumbnails_section(evidence: Evidence) -> str:
    """Renders thumbnails of selected frames; empty without thumbnails."""
    shown, selected = len(evidence.thumbnails), len(evidence.selected_frames)
    if not shown:
        return ""
    note = (
        f'<p class="note">Shows {shown:,} of {frame_count(selected)}, spread over the video.</p>\n'
        if shown < selected
        else ""
    )
    tiles = "\n".join(_tile(evidence, thumbnail) for thumbnail in evidence.thumbnails)
    return f"""<section>
<h2>Selected frames</h2>
{note}<ul class="frames">
{tiles}
</ul>
</section>"""


def costs_section(costs: tuple[Cost, ...], wall_seconds: float | None) -> str:
    """Renders the cost table with the wall time below it; empty without rows."""
    if not costs:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape_html(row.name)}</th><td>{_amount(row)}</td>'
        f"<td>{'' if row.seconds is None else duration_text(row.seconds)}</td></tr>"
        for row in costs
    )
    wall = (
        ""
        if wall_seconds is None
        else '<tfoot><tr><th scope="row" colspan="2">wall time (steps overlap)</th>'
        f"<td>{duration_text(wall_seconds)}</td></tr></tfoot>"
    )
    return f"""<section>
<h2>Cost</h2>
<table class="costs">
<thead>
<tr><th scope="col">step</th><th scope="col">amount</th><th scope="col">busy time</th></tr>
</thead>
<tbody>
{rows}
</tbody>
{wall}
</table>
</section>"""


def settings_section(evidence: Evidence) -> str:
    """Renders the model's name and the settings of the frame selection."""
    entries = {"model": evidence.model} | {
        name.replace("_", " "): setting_text(value) for name, value in evidence.selection.items()
    }
    rows = "\n".join(
        f'<tr><th scope="row">{escape_html(name)}</th><td dir="auto">{escape_html(value)}</td></tr>'
        for name, value in entries.items()
    )
    return f"""<section>
<h2>Settings</h2>
<table class="settings">
<tbody>
{rows}
</tbody>
</table>
</section>"""


def _all_selected(evidence: Evidence) -> bool:
    return len(evidence.selected_frames) == len(evidence.frame_times)


def _explain_scores(evidence: Evidence) -> str:
    """Describes the scale of the heights and the highest score, or why there are no scores."""
    if evidence.frame_scores is None:
        reason = " because all were selected" if _all_selected(evidence) else ""
        return f"No frame was scored{reason}."
    finite = {i: value for i, value in enumerate(evidence.frame_scores) if math.isfinite(value)}
    if not finite:
        return "No frame has a score."
    lowest, highest = min(finite.values()), max(finite.values())
    if lowest == highest:
        text = f"All frames have the same score, {score_text(lowest)}."
    else:
        peak = max(finite, key=finite.__getitem__)
        time = clock(evidence.frame_times[peak], _decimals(evidence))
        text = (
            "Height is the question's attention to a moment: 0 % is the lowest score, "
            f"{score_text(lowest)}, and 100 % the highest, {score_text(highest)} at {time}."
        )
    missing = len(evidence.frame_scores) - len(finite)
    return f"{text} {frame_count(missing)} without a score." if missing else text


def _decimals(evidence: Evidence) -> int:
    """Returns the digits of a second to print in time stamps of frames."""
    times = evidence.frame_times
    return clock_decimals((times[-1] - times[0]) / max(1, len(times) - 1))


def _tile(evidence: Evidence, thumbnail: Thumbnail) -> str:
    time = clock(evidence.frame_times[thumbnail.index], _decimals(evidence))
    spoken, text, bar = _score_parts(evidence, thumbnail.index)
    data = base64.b64encode(thumbnail.jpeg).decode("ascii")
    return (
        f'<li><figure><img alt="Frame at {time}{spoken}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><time>{time}</time>{text}</figcaption>{bar}</figure></li>"
    )


def _score_parts(evidence: Evidence, index: int) -> tuple[str, str, str]:
    """Returns the score as text for `alt`, as a percentage and as a bar; empty if all are equal."""
    scale = scale_of(evidence.frame_scores)
    if evidence.frame_scores is None or scale is None or scale.low == scale.high:
        return "", "", ""
    value = evidence.frame_scores[index]
    if not math.isfinite(value):
        return ", no score", "<span>no score</span>", '<svg class="bar" aria-hidden="true"></svg>'
    share = scale.level(value)
    return (
        f", score {score_text(value)}",
        f"<span>{percent(share)}</span>",
        f'<svg class="bar" aria-hidden="true"><rect width="{100 * share:.1f}%" height="4"/></svg>',
    )


def _amount(row: Cost) -> str:
    return "" if row.count is None else escape_html(f"{row.count:,} {row.unit}".strip())
