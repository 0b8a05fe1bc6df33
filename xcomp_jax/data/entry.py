"""Interprets the entries of LLaVA-style annotation files, and the forms of other tools.

    medium   "image" or "video": a path; or "images" or "videos": a list of one path
    turns    "conversations" or "messages": {"from": "human", "value": ...} or
             {"role": "user", "content": ...}
    mark     `<image>`; in an entry of one video without it, one `<video>` has the same meaning

The original reads "image", "video" and "conversations" with the mark `<image>` only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from xcomp_jax.data.entry_files import RepeatedKeys
from xcomp_jax.data.messages import nearest, shown
from xcomp_jax.text.prompts import VIDEO_MARK

MediumKind = Literal["image", "video"]
TURN_KEYS = ("conversations", "messages")
KINDS: tuple[MediumKind, ...] = get_args(MediumKind)

LeftOutReason = Literal["no image or video", "several images or videos"]
BadReason = Literal[
    "invalid entry", "invalid conversation", "text too long", "bad file", "features not stored"
]

OTHER_VIDEO_MARK = "<video>"
EXPECTED_KEYS = (
    "an entry has 'video' or 'image' with a path, and 'conversations' with a list of turns"
)
_ROLES = {"user": "human", "assistant": "gpt"}
_CLOCK = re.compile(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", re.ASCII)


class LeftOutError(ValueError):
    """Raised for an entry that is valid, but not about exactly one image or video."""

    def __init__(self, reason: LeftOutReason) -> None:
        super().__init__(reason)
        self.reason: LeftOutReason = reason


class EntryError(ValueError):
    """Raised for an entry that cannot be used; the message gives the reason."""

    def __init__(self, reason: BadReason, message: str) -> None:
        super().__init__(message)
        self.reason: BadReason = reason


def entry_medium(entry: Mapping[str, Any]) -> tuple[MediumKind, str]:
    """Returns the kind and the path of an entry's one image or video.

    Raises:
        LeftOutError: the entry is about text only, or about several images or videos.
        EntryError: the path is not a text, or a key seems to be misspelled.
    """
    media = [(kind, entry[kind]) for kind in KINDS if entry.get(kind) is not None]
    # As in the original, a list counts as several images even if it holds one.
    if len(media) > 1 or (media and isinstance(media[0][1], list)):
        raise LeftOutError("several images or videos")
    if not media:
        media = [(kind, path) for kind in KINDS for path in _listed(entry.get(f"{kind}s"))]
    if not media:
        _refuse_unknown_keys(entry)
        raise LeftOutError("no image or video")
    if len(media) > 1 or isinstance(media[0][1], list):
        raise LeftOutError("several images or videos")
    kind, path = media[0]
    if not isinstance(path, str) or not path.strip():
        raise EntryError("invalid entry", f"{kind}={shown(path)} must be a path")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise EntryError("invalid entry", f"{kind}={shown(path)} is not valid Unicode") from error
    return kind, path


def entry_turns(entry: Mapping[str, Any], kind: MediumKind) -> tuple[dict[str, str], ...]:
    """Returns the turns as {"from": "human" | "gpt", "value": ...}; other turns stay as they are.

    Raises:
        EntryError: there is no list of turns.
    """
    name = next((key for key in TURN_KEYS if entry.get(key) is not None), "")
    turns = entry.get(name)
    if turns is None:
        suggestion = next(filter(None, (nearest(key, TURN_KEYS, cutoff=0.8) for key in entry)), "")
        raise EntryError(
            "invalid conversation",
            f"no 'conversations'; {EXPECTED_KEYS}, {_found(entry)}{suggestion}",
        )
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise EntryError(
            "invalid conversation", f"{name!r} must be a list of objects, got {shown(turns)}"
        )
    if any(isinstance(value, RepeatedKeys) for value in (entry, *turns)):
        raise EntryError("invalid entry", "a key occurs twice in one object; keep one of them")
    turns = [_turn(turn) for turn in turns]
    text = [turn["value"] for turn in turns if isinstance(turn.get("value"), str)]
    if kind == "video" and not _count(text, VIDEO_MARK) and _count(text, OTHER_VIDEO_MARK) == 1:
        turns = [_with_mark(turn) for turn in turns]
    # As in the original, a reply before the first question is dropped.
    return tuple(turns[1:] if turns and turns[0].get("from") == "gpt" else turns)


def entry_cut(entry: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
    """Returns start and end of the cut in seconds, or None for a whole video.

    As in the original, both are needed for a cut.

    Raises:
        EntryError: they are neither seconds nor hh:mm:ss, or not in this order.
    """
    if entry.get("start") is None or entry.get("end") is None:
        return None, None
    start, end = _seconds(entry["start"]), _seconds(entry["end"])
    if start is None or end is None or start >= end:
        raise EntryError(
            "invalid entry",
            f"start={shown(entry['start'])} and end={shown(entry['end'])} must be seconds or "
            "hh:mm:ss, with the start before the end",
        )
    return start, end


def _seconds(value: Any) -> float | None:
    """Returns seconds from a number, its text or "hh:mm:ss.fff"; None for anything else."""
    if isinstance(value, bool):
        return None
    clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        seconds = (
            3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3]) if clock else float(value)
        )
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _refuse_unknown_keys(entry: Mapping[str, Any]) -> None:
    """Raises EntryError for an entry without a medium that seems to be about one."""
    turns = next((entry[key] for key in TURN_KEYS if entry.get(key) is not None), None)
    is_text = isinstance(turns, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("content", turn.get("value")), str)
        for turn in turns
    )
    keys = [key for key in entry if key.removesuffix("s") not in KINDS]
    suggestion = next(filter(None, (_likely_medium(key) for key in keys)), "")
    has_mark = any(mark in str(turns) for mark in (VIDEO_MARK, OTHER_VIDEO_MARK))
    if suggestion or has_mark or not is_text:
        raise EntryError(
            "invalid entry",
            f"neither 'image' nor 'video'; {EXPECTED_KEYS}, {_found(entry)}{suggestion}",
        )


def _likely_medium(key: str) -> str:
    contained = next((kind for kind in KINDS if kind in key.lower()), key)
    return nearest(contained, KINDS, cutoff=0.75)


def _found(entry: Mapping[str, Any]) -> str:
    return f"this one has the keys {shown(list(entry))}"


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or not isinstance(text, str):
        return turn
    return {"from": _ROLES.get(role, role), "value": text}


def _with_mark(turn: dict[str, Any]) -> dict[str, Any]:
    value = turn.get("value")
    if not isinstance(value, str):
        return turn
    return {**turn, "value": value.replace(OTHER_VIDEO_MARK, VIDEO_MARK)}


def _count(texts: list[str], mark: str) -> int:
    return sum(text.count(mark) for text in texts)
