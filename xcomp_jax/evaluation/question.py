"""Defines a benchmark's questions and the functions of its task."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from xcomp_jax.evaluation.scoring import Readings, Span
from xcomp_jax.evaluation.subtitles import Subtitles


@dataclasses.dataclass(frozen=True)
class Needle:
    """An image inserted before frame `frame` of a haystack."""

    image: str
    frame: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One question of a benchmark.

    Attributes:
        id: unique within the benchmark.
        video: name as the benchmark gives it.
        folders: folders below the data folder in which the video is looked for, in this order.
        text: question, caption or sentence to locate.
        options: option texts, as the benchmark writes them.
        gold: index of the right option; None if there is none.
        span: annotated span in seconds, in temporal grounding.
        clip: seconds of the part of the video that the question is about; None for all of it.
        folder_fps: images per second if the video is a folder of extracted frames.
        duration: seconds as the benchmark gives them.
        categories: values by kind of category, such as {"type": ("cartoon",)}.
        evidence: spans in seconds that hold the answer, as annotated.
        subtitles: path of the subtitle file below the data folder; None if the benchmark has none.
        subtitle_start: seconds of the subtitle file at which the video starts.
        needles: images inserted into the video, which then is a haystack.
        haystack_frames: frames of the haystack.
    """

    id: str
    video: str
    folders: tuple[str, ...] = ("videos",)
    text: str
    options: tuple[str, ...] = ()
    gold: int | None = None
    span: Span | None = None
    clip: Span | None = None
    folder_fps: float = 1.0
    duration: float | None = None
    categories: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    evidence: tuple[Span, ...] = ()
    subtitles: str | None = None
    subtitle_start: float = 0.0
    needles: tuple[Needle, ...] = ()
    haystack_frames: int | None = None

    @property
    def video_key(self) -> str:
        """Folder and name of the video; names alone repeat between a benchmark's sources."""
        return f"{self.folders[0]}/{self.video}"

    @property
    def cluster(self) -> str:
        """Name of what questions share: their video, or the images in a haystack."""
        return " ".join(needle.image for needle in self.needles) or self.video_key

    @property
    def content_hash(self) -> str:
        """Hash of text, options and gold, but not of the names of question and video."""
        parts = (self.text, *self.options, repr(self.gold), repr(self.span))
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


Metric = Literal["accuracy", "grounding"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark: pure functions and facts; `xcomp_jax.evaluation.tasks.TASKS` has all of them.

    Attributes:
        name: name on the command line.
        title: name in reports.
        load: reads the questions of a data folder; raises DataError.
        prompt: returns the text after the time message. The subtitles are None if the protocol runs
            without them.
        read: scores an answer in all modes.
        metric: `grounding` also reports the share above 0.3, 0.5 and 0.7.
        macro_over: kind of category whose groups are averaged for the macro average.
        report_by: kinds of category with their own rows in a report.
        read_subtitles: reads a subtitle file of the benchmark; None if its prompt has no subtitles.
    """

    name: str
    title: str
    load: Callable[[Path], list[Question]]
    prompt: Callable[[Question, Subtitles | None], str]
    read: Callable[[Question, str], Readings]
    metric: Metric = "accuracy"
    macro_over: str
    report_by: tuple[str, ...] = ()
    read_subtitles: Callable[[Path], Subtitles] | None = None


def prompt_hash(prompt: str) -> str:
    """Returns the first 16 hexadecimal digits of the prompt's SHA-256."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]
