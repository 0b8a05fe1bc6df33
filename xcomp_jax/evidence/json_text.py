"""Converts evidence to JSON text and back."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from xcomp_jax.evidence.record import Cost, Evidence, Thumbnail

FORMAT = "xcomp evidence 2"

EARLIER_NAMES: dict[str, dict[str, str]] = {
    "xcomp evidence 1": {"chosen": "selected_frames"},
    FORMAT: {},
}
"""Formats that can be read, with the names they used for entries renamed since."""


def to_json(evidence: Evidence, *, thumbnails: bool = True) -> str:
    """Encodes evidence as indented ASCII JSON.

    Lists every selected frame with its time in seconds and its score. Numbers that are not finite,
    i.e. missing scores, become null.

    Args:
        thumbnails: include the JPEG files as base64.
    """
    scores = evidence.frame_scores
    value: dict[str, Any] = {
        "format": FORMAT,
        "video": evidence.video,
        "duration": float(evidence.duration),
        "question": evidence.question,
        "answer": evidence.answer,
        "model": evidence.model,
        "selected_frames": [
            {
                "frame": int(index),
                "time": float(evidence.frame_times[index]),
                "score": None if scores is None else _finite(scores[index]),
            }
            for index in evidence.selected_frames
        ],
        "selection": {
            name: _finite(setting) if isinstance(setting, float) else setting
            for name, setting in evidence.selection.items()
        },
        "costs": [
            {"name": row.name, "seconds": row.seconds, "count": row.count, "unit": row.unit}
            for row in evidence.costs
        ],
        "wall_seconds": evidence.wall_seconds,
        "notes": list(evidence.notes),
        "frame_times": [float(time) for time in evidence.frame_times],
        "frame_scores": None if scores is None else [_finite(score) for score in scores],
    }
    if thumbnails:
        value["thumbnails"] = [
            {"frame": int(picture.index), "jpeg": base64.b64encode(picture.jpeg).decode("ascii")}
            for picture in evidence.thumbnails
        ]
    return _with_short_lines(value)


def from_json(text: str) -> Evidence:
    """Parses the JSON of `to_json`; a null score becomes NaN.

    Raises:
        ValueError: the text is not JSON, has another format, or its values are inconsistent.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not the JSON of an answer's evidence: {error}") from error
    if not isinstance(value, dict) or value.get("format") not in [*EARLIER_NAMES]:
        raise ValueError(
            f'not the JSON of an answer\'s evidence: "format" must be one of {[*EARLIER_NAMES]}'
        )
    try:
        for earlier, name in EARLIER_NAMES[value["format"]].items():
            value[name] = value.pop(earlier)
        return _evidence(value)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"the JSON of an answer's evidence is incomplete or of the wrong type ({error!r}); "
            "write it again with to_json"
        ) from error


def _evidence(value: dict[str, Any]) -> Evidence:
    scores = value["frame_scores"]
    return Evidence(
        video=value["video"],
        duration=value["duration"],
        question=value["question"],
        answer=value["answer"],
        model=value["model"],
        frame_times=tuple(value["frame_times"]),
        frame_scores=None if scores is None else tuple(_number(score) for score in scores),
        selected_frames=tuple(row["frame"] for row in value["selected_frames"]),
        selection={name: _number(setting) for name, setting in value["selection"].items()},
        costs=tuple(Cost(**row) for row in value["costs"]),
        wall_seconds=value.get("wall_seconds"),  # format 1 has none
        notes=tuple(value.get("notes", ())),
        thumbnails=tuple(
            Thumbnail(picture["frame"], base64.b64decode(picture["jpeg"], validate=True))
            for picture in value.get("thumbnails", ())
        ),
    )


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _with_short_lines(value: dict[str, Any]) -> str:
    """Formats one line per entry and per table row, instead of one line per number."""
    lines = []
    for name, entry in value.items():
        rows = isinstance(entry, list) and entry and isinstance(entry[0], dict)
        text = (
            "[\n    " + ",\n    ".join(_line(row) for row in entry) + "\n  ]"
            if rows
            else _line(entry)
        )
        lines.append(f"  {_line(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
