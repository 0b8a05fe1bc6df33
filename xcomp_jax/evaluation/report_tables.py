"""Formats the result of a run as tables of text, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.config import PublishedScore, SelectionConfig
from xcomp_jax.evaluation.beside_published import PublishedRow
from xcomp_jax.evaluation.report import Report
from xcomp_jax.evaluation.scoring import MODES, Mode
from xcomp_jax.evaluation.summary import MIN_VIDEOS, GroupScore, ModeSummary

MODE_NAMES: dict[Mode, str] = {
    "reference": "as published",
    "strict": "strict",
    "lmms_eval": "lmms-eval",
}

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"

ERROR_NOTE = (
    f"Errors are standard errors in points, and {PLUS_MINUS} is one: with videos as clusters, or "
    f"of independent questions in the column error and in groups of less than {MIN_VIDEOS} videos. "
    "Published ones are of independent questions."
)

Table = tuple[Sequence[str], list[Sequence[str]]]
"""Head and rows."""


def mode_table(report: Report) -> Table:
    """Scores by scoring mode."""
    micro = "mean overlap" if report.task.metric == "grounding" else "micro"
    head = ["scoring", micro, "95 % interval", "error", "error by video", "macro"]
    head += [f"overlap {overlap}" for overlap in report.headline.found]
    head += ["unparsed", "empty", "random"]
    rows = [_mode_row(mode, report.summary.modes[mode]) for mode in MODES]
    return head, rows


def _mode_row(name: Mode, mode: ModeSummary) -> Sequence[str]:
    estimate, statuses = mode.estimate, mode.statuses
    guesses = statuses.get("random", 0)
    random = f"{guesses:,} (expected score {percent(mode.expected)})" if guesses else "0"
    left_out = f", {mode.left_out:,} left out" if mode.left_out else ""
    return [
        MODE_NAMES[name],
        percent(estimate.mean),
        f"{percent(estimate.interval.low)} to {percent(estimate.interval.high)}",
        error_text(estimate.error),
        error_text(estimate.clustered_error),
        with_error(mode.macro, mode.macro_error),
        *(percent(share) for share in mode.found.values()),
        f"{statuses.get('unparsed', 0):,}",
        f"{statuses.get('empty', 0):,}{left_out}",
        random,
    ]


def published_table(report: Report) -> Table:
    """Published scores beside ours."""
    head = ("system", "questions", "published", "here", "difference", "source")
    return head, [
        (
            row.score.system,
            covered_questions(row.score),
            with_error(row.score.percent / 100, row.published_error),
            with_error(row.ours, row.error),
            difference_text(row),
            row.score.source,
        )
        for row in report.published
    ]


def covered_questions(score: PublishedScore) -> str:
    """Formats the questions of a published score, such as "duration=long, 900"."""
    number = f", {score.questions:,}" if score.questions else ""
    name = score.group or ("all" if score.metric == "micro" else score.metric)
    return f"{name}{number}"


def coverage_table(report: Report) -> Table:
    """Shares of questions with a frame in their annotated span."""
    names = {
        "sampled": "all sampled frames",
        "selected": "selected frames",
        "even": "as many frames, evenly spread",
    }
    rows = [
        (names[name], with_error(share.mean, share.error), f"{share.questions:,}")
        for name, share in report.summary.covered.items()
    ]
    return ("frames", "a frame in the annotated span", "questions"), list(rows)


def group_table(kind: str, groups: dict[str, GroupScore]) -> Table:
    """Scores of the groups of one kind of category."""
    rows = [
        (value, with_error(group.mean, group.error), f"{group.questions:,}")
        for value, group in groups.items()
    ]
    return (kind.replace("_", " "), "score", "questions"), list(rows)


def protocol_lines(report: Report) -> list[str]:
    """Sentences about protocol, departures and data."""
    protocol, info = report.protocol, report.info
    sampling = protocol.sampling
    return [
        f"settings of {protocol.system}; departures: {'; '.join(report.departures) or 'none'}",
        f"{sampling.min_frames:,} to {sampling.max_frames:,} frames, up to {sampling.fps} per "
        f"second; {selection_note(protocol.selection)}",
        f"greedy, up to {protocol.max_new_tokens:,} tokens, repetition penalty "
        f"{protocol.repetition_penalty:g}; {subtitle_note(report)}",
        *([f"only questions with {protocol.subset}"] if protocol.subset else []),
        *(f"not determined by public code: {line}" for line in protocol.not_pinned),
        f"data: {info.question_set}",
        f"checkpoint: {info.checkpoint}, hash {info.checkpoint_hash}",
        f"code: {info.version}; devices: {info.devices}",
    ]


def subset_note(report: Report) -> str:
    """Returns the category to which the protocol limits the questions, in brackets."""
    subset = report.protocol.subset
    return f" ({subset} only)" if subset else ""


def rule_note(report: Report) -> str:
    """Returns the scoring rule of the headline."""
    rules: dict[Mode, str] = {
        "reference": "by the published rule",
        "strict": "by the strict rule",
        "lmms_eval": "by the rule of lmms-eval",
    }
    is_overlap = report.task.metric == "grounding"
    return rules[report.protocol.headline] + (" as mean overlap (mIoU)" if is_overlap else "")


def selection_note(selection: SelectionConfig | None) -> str:
    if selection is None:
        return "no selection"
    number = "the paper's number" if selection.select is None else f"{selection.select:,}"
    return f"{number} selected with {selection.repeats} repeats"


def subtitle_note(report: Report) -> str:
    if report.task.read_subtitles is None:
        return "no subtitles in this benchmark"
    return "subtitles in the prompt" if report.protocol.subtitles else "without subtitles"


def percent(share: float) -> str:
    """Formats 0.4619 as 46.2 %."""
    return f"{100 * share:.1f} %"


def error_text(error: float) -> str:
    """Formats a standard error in points."""
    return f"{100 * error:.2f}"


def with_error(share: float | None, error: float | None) -> str:
    if share is None:
        return NOTHING
    return percent(share) if error is None else f"{percent(share)} {PLUS_MINUS} {error_text(error)}"


def difference_text(row: PublishedRow) -> str:
    """Formats the difference in points, and in standard errors where both are known."""
    if row.ours is None:
        return NOTHING
    points = signed(100 * row.ours - row.score.percent)
    return points if row.distance is None else f"{points} ({signed(row.distance)} errors)"


def signed(number: float) -> str:
    return f"{number:+.1f}".replace("-", MINUS)
