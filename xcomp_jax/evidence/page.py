"""Evidence as one HTML page: everything inside, nothing to load, nothing to run."""

from __future__ import annotations

import base64
import hashlib
import math

from xcomp_jax.evidence.record import Cost, Evidence, Thumbnail
from xcomp_jax.evidence.scale import scale_of
from xcomp_jax.evidence.style import stylesheet
from xcomp_jax.evidence.timeline import timeline
from xcomp_jax.evidence.wording import (
    clock,
    clock_decimals,
    escaped,
    frames,
    lasting,
    percent,
    score,
    setting,
    summary,
)

LONG_QUESTION = 140
"""Characters from which on a question is a paragraph and not a headline."""

TITLE_LENGTH = 70


def to_html(evidence: Evidence) -> str:
    """The page. Its own policy forbids the browser to load or run anything.

    Its size is that of the thumbnails and texts, a third added to the former, plus at most some
    60 kB however many frames were looked at.
    """
    style = stylesheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = [
        _heading(evidence),
        _timeline(evidence),
        _thumbnails(evidence),
        f'<div class="facts">{_costs(evidence.costs)}{_settings(evidence)}</div>',
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escaped(_title(evidence.question))}</title>
<style>{style}</style>
</head>
<body>
<main>
{chr(10).join(part for part in body if part)}
</main>
</body>
</html>
"""


def _title(question: str) -> str:
    words = " ".join(question.split())
    return words if len(words) <= TITLE_LENGTH else words[: TITLE_LENGTH - 1].rstrip() + "…"


def _heading(evidence: Evidence) -> str:
    size = ' class="long"' if len(evidence.question) > LONG_QUESTION else ""
    return f"""<header>
<p class="about"><bdi>{escaped(evidence.video)}</bdi></p>
<h1 dir="auto"{size}>{escaped(evidence.question)}</h1>
<div class="reply">
<h2>Answer</h2>
<p class="answer" dir="auto">{escaped(evidence.answer)}</p>
</div>
<p class="summary">{summary(evidence)}</p>
</header>"""


def _timeline(evidence: Evidence) -> str:
    scale, all_used = scale_of(evidence.frame_scores), _all_used(evidence)
    title = "Where the question looked" if scale else "Where it looked"
    words = _scores_in_words(evidence)
    key = ["<li>answered from</li>"]
    if scale and not all_used:
        key.append('<li class="seen">looked at, not answered from</li>')
    return f"""<section>
<h2>{title}</h2>
<figure>
<ul class="key">{"".join(key)}</ul>
{timeline(evidence, f"{summary(evidence)} {words}")}
<figcaption class="note">{words}</figcaption>
</figure>
</section>"""


def _all_used(evidence: Evidence) -> bool:
    return len(evidence.selected_frames) == len(evidence.frame_times)


def _scores_in_words(evidence: Evidence) -> str:
    """What the heights mean and where the highest is, or why there are none."""
    if evidence.frame_scores is None:
        return "No frame was scored" + (", since all were used." if _all_used(evidence) else ".")
    known = {i: value for i, value in enumerate(evidence.frame_scores) if math.isfinite(value)}
    if not known:
        return "No frame has a score."
    lowest, highest = min(known.values()), max(known.values())
    if lowest == highest:
        text = f"All frames scored the same, {score(lowest)}."
    else:
        at = clock(evidence.frame_times[max(known, key=known.__getitem__)], _decimals(evidence))
        text = (
            "Height is how strongly the question attended to a moment: 0 % is the lowest score, "
            f"{score(lowest)}, and 100 % the highest, {score(highest)} at {at}."
        )
    missing = len(evidence.frame_scores) - len(known)
    return f"{text} {frames(missing)} without a score." if missing else text


def _decimals(evidence: Evidence) -> int:
    """Digits of a second in time stamps of frames."""
    times = evidence.frame_times
    return clock_decimals((times[-1] - times[0]) / max(1, len(times) - 1))


def _thumbnails(evidence: Evidence) -> str:
    shown, selected_frames = len(evidence.thumbnails), len(evidence.selected_frames)
    if not shown:
        return ""
    note = (
        f'<p class="note">{shown:,} of {frames(selected_frames)}, spread over the video.</p>\n'
        if shown < selected_frames
        else ""
    )
    tiles = "\n".join(_tile(evidence, thumbnail) for thumbnail in evidence.thumbnails)
    return f"""<section>
<h2>Frames it answered from</h2>
{note}<ul class="frames">
{tiles}
</ul>
</section>"""


def _tile(evidence: Evidence, thumbnail: Thumbnail) -> str:
    time = clock(evidence.frame_times[thumbnail.index], _decimals(evidence))
    spoken, text, bar = _score(evidence, thumbnail.index)
    data = base64.b64encode(thumbnail.jpeg).decode("ascii")
    return (
        f'<li><figure><img alt="Frame at {time}{spoken}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><time>{time}</time>{text}</figcaption>{bar}</figure></li>"
    )


def _score(evidence: Evidence, index: int) -> tuple[str, str, str]:
    """The score in words, as a share of the scale, and as a bar; nothing where all are equal."""
    scale = scale_of(evidence.frame_scores)
    if evidence.frame_scores is None or scale is None or scale.low == scale.high:
        return "", "", ""
    value = evidence.frame_scores[index]
    if not math.isfinite(value):
        return ", no score", "<span>no score</span>", '<svg class="bar" aria-hidden="true"></svg>'
    share = scale.level(value)
    return (
        f", score {score(value)}",
        f"<span>{percent(share)}</span>",
        f'<svg class="bar" aria-hidden="true"><rect width="{100 * share:.1f}%" height="4"/></svg>',
    )


def _costs(costs: tuple[Cost, ...]) -> str:
    if not costs:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escaped(row.name)}</th><td>{_amount(row)}</td>'
        f"<td>{'' if row.seconds is None else lasting(row.seconds)}</td></tr>"
        for row in costs
    )
    timed = [row.seconds for row in costs if row.seconds is not None]
    total = (
        '<tfoot><tr><th scope="row" colspan="2">in all</th>'
        f"<td>{lasting(sum(timed))}</td></tr></tfoot>"
        if len(timed) > 1
        else ""
    )
    return f"""<section>
<h2>What it cost</h2>
<table class="costs">
<thead>
<tr><th scope="col">step</th><th scope="col">amount</th><th scope="col">time</th></tr>
</thead>
<tbody>
{rows}
</tbody>
{total}
</table>
</section>"""


def _amount(row: Cost) -> str:
    return "" if row.count is None else escaped(f"{row.count:,} {row.unit}".strip())


def _settings(evidence: Evidence) -> str:
    entries = {"model": evidence.model} | {
        name.replace("_", " "): setting(value) for name, value in evidence.selection.items()
    }
    rows = "\n".join(
        f'<tr><th scope="row">{escaped(name)}</th><td dir="auto">{escaped(value)}</td></tr>'
        for name, value in entries.items()
    )
    return f"""<section>
<h2>How it was asked</h2>
<table class="settings">
<tbody>
{rows}
</tbody>
</table>
</section>"""
