"""Reads the time span of an answer and scores it against the annotated one.

Source of the reference rule: `lmms-eval_videochat/lmms_eval/tasks/temporal_grounding/eval_tvg.py`
of github.com/OpenGVLab/VideoChat-Flash.
"""

from __future__ import annotations

import re

from xcomp_jax.evaluation.scoring.reading import Reading, Readings, status_of

Span = tuple[float, float]
"""First and last second."""

EXAMPLE = "a specific example is : 20.8 - 30.0 seconds"
"""Text that the published rule removes before it reads an answer."""

TIME_WORDS = ("start", "end", "happen")
"""A sentence with one of them may state a time."""

PAIR = re.compile(r"(\d+\.*\d*)\s*-\s*(\d+\.*\d*)")
NUMBER = re.compile(r"\b(\d+\.\d+\b|\b\d+)\b")

SECONDS = r"(?P<{0}>\d+(?::\d{{2}}){{1,2}}(?:\.\d+)?|\d+(?:\.\d+)?)\s*(?:s|sec|secs|seconds?)?"
STRICT_RANGE = re.compile(
    rf"{SECONDS.format('start')}\s*(?:[-\u2013\u2014~]|\b(?:to|and|until)\b)\s*"
    rf"{SECONDS.format('end')}\b"
)
STRICT_WORDS = re.compile(
    rf"\bstart\w*\b[^\d]*{SECONDS.format('start')}\b.*?\bend\w*\b[^\d]*{SECONDS.format('end')}\b",
    re.DOTALL,
)
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def published_span(answer: str) -> Span | None:
    """Reads an answer as the published rule: `extract_time`.

    Takes the first "number - number" ("to" becomes "-", also inside words). Without one, takes the
    first number of the first two sentences that have a number and a time word. Sentences end at
    "!", "?" and line breaks only, so that "starts at 3.2 seconds and ends at 9 seconds" is one
    sentence and gives no span. The code's third rule, for hh:mm:ss, is never reached: the second
    reads such times as numbers.
    """
    text = answer.lower().replace(EXAMPLE, "").replace("to", "-")
    if pair := PAIR.search(text):
        return _ordered(_number(pair[1]), _number(pair[2]))
    sentences = [
        sentence
        for sentence in re.split(r"[!?\n]", text)
        if any(word in sentence for word in TIME_WORDS)
    ]
    numbers = [match[1] for sentence in sentences if (match := NUMBER.search(sentence))]
    return _ordered(float(numbers[0]), float(numbers[1])) if len(numbers) > 1 else None


def strict_span(answer: str) -> Span | None:
    """Reads a span as people write it; quoted captions are skipped.

    Accepts "3.2 - 9", "5 seconds to 12 seconds", "between 5 and 12", "starts at 3.2 seconds and
    ends at 9 seconds", each also with mm:ss or hh:mm:ss.
    """
    text = QUOTED.sub(" ", answer.lower().replace(EXAMPLE, ""))
    match = STRICT_RANGE.search(text) or STRICT_WORDS.search(text)
    return _ordered(clock_seconds(match["start"]), clock_seconds(match["end"])) if match else None


def intersection_over_union(first: Span, second: Span) -> float:
    """Returns the overlap of two spans as a share of the time from first start to last end."""
    overlap = min(first[1], second[1]) - max(first[0], second[0])
    extent = max(first[1], second[1]) - min(first[0], second[0])
    if extent <= 0:
        return float(first == second)
    return max(overlap, 0.0) / extent


def span_readings(answer: str, gold: Span) -> Readings:
    """Scores an answer by its intersection over union; without a span the score is 0.

    lmms-eval uses the published rule, so that both modes agree.
    """
    answer = answer.strip()
    published = _reading(answer, published_span(answer), gold)
    return {
        "reference": published,
        "strict": _reading(answer, strict_span(answer), gold),
        "lmms_eval": published,
    }


def clock_seconds(text: str) -> float:
    """Converts seconds, mm:ss or hh:mm:ss to seconds."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _reading(answer: str, span: Span | None, gold: Span) -> Reading:
    parsed = "" if span is None else f"{span[0]:g}-{span[1]:g}"
    score = 0.0 if span is None else intersection_over_union(gold, span)
    return Reading(parsed, score, status_of(answer, parsed), expected=score)


def _number(text: str) -> float:
    """Converts a number of the pair rule, whose pattern allows several dots in a row."""
    return float(re.sub(r"\.+", ".", text))


def _ordered(start: float, end: float) -> Span:
    return (start, end) if end > start else (end, start)
