"""Reads subtitle files: SubRip (.srt) and the JSON lists of LongVideoBench."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from xcomp_jax.evaluation.errors import DataError

TIMES = re.compile(
    r"^\s*(\d+:\d{1,2}:\d{1,2}(?:[,.]\d+)?)\s*-->\s*(\d+:\d{1,2}:\d{1,2}(?:[,.]\d+)?)"
)
TAG = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")
"""HTML tags and the {\\an8} codes of SubRip files."""


@dataclasses.dataclass(frozen=True)
class Subtitle:
    """One subtitle; seconds, and the text as stored, with tags and line breaks.

    `end` is None where the file gives none.
    """

    start: float
    end: float | None
    text: str


@dataclasses.dataclass(frozen=True)
class Subtitles:
    """The subtitles of one video in the order of the file; they may overlap."""

    entries: tuple[Subtitle, ...] = ()
    missing: bool = False
    """The file does not exist; one without text is not missing."""


def read_srt(path: Path) -> Subtitles:
    """Reads a SubRip file in UTF-8, with or without byte order mark, UTF-16 or Latin-1.

    Blocks without a time line or without text are skipped. A missing file gives `missing`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Subtitles(missing=True)
    return Subtitles(tuple(_srt_entries(decode_text(data))))


def decode_text(data: bytes) -> str:
    """Decodes text of unknown encoding; line breaks become newlines."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def plain_text(text: str) -> str:
    """Removes tags and joins lines by spaces."""
    return " ".join(TAG.sub("", text).split())


def read_longvideobench(path: Path) -> Subtitles:
    """Reads a JSON list of subtitles in either of LongVideoBench's formats.

    `{"timestamp": [start, end], "text": ...}` with seconds, or `{"start": "h:m:s", "end": "h:m:s",
    "line": ...}`. As in the published code, an end of the first format that is not a float
    (null, or an integer) is unknown.

    Raises:
        DataError: the file is not such a list.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
        return Subtitles(tuple(_longvideobench_entry(entry) for entry in entries))
    except FileNotFoundError:
        return Subtitles(missing=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a subtitle file of LongVideoBench ({error!r}); extract it again from "
            "subtitles.tar"
        ) from error


def seconds_of(text: str) -> float:
    """Converts h:m:s with a fraction after a comma or dot to seconds."""
    hours, minutes, seconds = text.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _longvideobench_entry(entry: dict[str, Any]) -> Subtitle:
    text = entry["text" if "timestamp" in entry else "line"]
    if not isinstance(text, str):
        raise TypeError(f"a subtitle's text is {text!r}")
    if "timestamp" in entry:
        start, end = entry["timestamp"]
        return Subtitle(float(start), end if isinstance(end, float) else None, text)
    return Subtitle(seconds_of(entry["start"]), seconds_of(entry["end"]), text)


def _srt_entries(text: str) -> list[Subtitle]:
    entries: list[Subtitle] = []
    times: tuple[float, float] | None = None
    lines: list[str] = []

    def close() -> None:
        content = "\n".join(lines).strip("\n")
        if times is not None and content.strip():
            entries.append(Subtitle(*times, content))

    for line in text.split("\n"):
        if match := TIMES.match(line):
            if times is not None and lines and lines[-1].strip().isdigit():
                lines.pop()  # the number of the next block, which no empty line separates
            close()
            times, lines = (seconds_of(match[1]), seconds_of(match[2])), []
        elif times is not None and line.strip():
            lines.append(line)
        elif times is not None and lines:
            close()
            times, lines = None, []
    close()
    return entries
