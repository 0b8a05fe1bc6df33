"""Needle in a video haystack, single and multi hop.

Data: `niah-coco-singlehop_20.json` and `niah-coco-multihop-100.json` of
huggingface.co/datasets/OpenGVLab/NIAH-Video, also in `xtuner-eval_niah/vision_niah/` of
github.com/OpenGVLab/VideoChat-Flash, whose `single_eval_vision_niah.py` and
`multi_eval_vision_niah.py` define grid, order of the frames and rule.

A question is asked once per cell of the grid: the published one, or that of the folder's
`niah-grid.json`, {"frames": [...], "depths": [...]}. Needles and haystack are encoded apart from
each other, and the needle's visual tokens are inserted between those of the haystack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Needle, Question, Task
from xcomp_jax.evaluation.scoring import Readings, letter_at, needle_readings
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import (
    Fields,
    annotation_files,
    fields_of,
    lettered_gold,
    require_distinct,
)
from xcomp_jax.files import read_text

FRAME_COUNTS = tuple(range(1000, 10_001, 1000))
"""Haystack lengths of `flash_eval_xtuner_single.sh`; the published heat map has a step of 500."""

DEPTHS = tuple(index * 0.2 for index in range(6))

GRID_FILE = "niah-grid.json"

HAYSTACK = "video_haystack.mkv"
OPTION = re.compile(r"\(([A-Z])\) ([^\n]*)")


def load_single(folder: Path) -> list[Question]:
    """Reads 20 questions and asks each for 10 lengths and 6 depths: 1,200, or by the grid file."""
    (file, *_) = annotation_files(
        folder, "niah-coco-singlehop_20.json", "**/niah-coco-singlehop_20.json"
    )
    rows = fields_of(file)
    frame_counts, depths = read_grid(folder)
    return require_distinct(
        _single_question(item, row, frames, depth)
        for frames in frame_counts
        for depth in depths
        for item, row in enumerate(rows)
    )


def load_multi(folder: Path) -> list[Question]:
    """Reads 100 chains and asks two questions about each for 10 lengths: 2,000, or by the file."""
    (file, *_) = annotation_files(
        folder, "niah-coco-multihop-100.json", "**/niah-coco-multihop-100.json"
    )
    rows = fields_of(file)
    frame_counts, _ = read_grid(folder)
    return require_distinct(
        question
        for frames in frame_counts
        for item, row in enumerate(rows)
        for question in _multi_questions(item, row, frames)
    )


def read_grid(folder: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Returns the lengths and depths of the folder's grid file, or the published ones.

    Raises:
        DataError: the file is damaged, or a value is out of range.
    """
    path = folder / GRID_FILE
    if not path.is_file():
        return FRAME_COUNTS, DEPTHS
    try:
        grid = json.loads(read_text(path))
        frames, depths = tuple(grid["frames"]), tuple(float(depth) for depth in grid["depths"])
        valid = all(type(count) is int and count >= 1 for count in frames)
        valid = valid and all(0 <= depth <= 1 for depth in depths) and bool(frames and depths)
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        raise DataError(
            f'{path} is no grid; write {{"frames": [1000, 2000], "depths": [0, 0.5, 1]}} with '
            "positive whole frames and depths from 0 to 1, or delete it for the published grid"
        )
    return frames, depths


def single_needle(image: str, frames: int, depth: float) -> Needle:
    """Places a needle before frame int(depth x frames) of the haystack."""
    return Needle(image, int(depth * frames))


def chain_of_needles(images: tuple[str, ...], frames: int) -> tuple[Needle, ...]:
    """Spreads the needles from before the first frame of the haystack to behind the last."""
    step = frames / max(1, len(images) - 1)
    return tuple(Needle(image, int(index * step)) for index, image in enumerate(images))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    return question.text


def read(question: Question, answer: str) -> Readings:
    assert question.gold is not None
    return needle_readings(answer, question.options, question.gold, letter_at(question.gold))


def _single_question(item: int, row: Fields, frames: int, depth: float) -> Question:
    percent = f"{100 * depth:.0f} %"
    return _question(
        f"single-{item}-{frames}-{100 * depth:.0f}",
        row.text("question"),
        row.text("answer"),
        (single_needle(row.text("image"), frames, depth),),
        {"frames": (f"{frames}",), "depth": (percent,), "cell": (f"{frames} frames, {percent}",)},
    )


def _multi_questions(item: int, row: Fields, frames: int) -> Iterator[Question]:
    needles = chain_of_needles(row.texts("images"), frames)
    for number, kind in ((1, "caption"), (2, "question")):
        yield _question(
            f"multi-{item}-{kind}-{frames}",
            row.text(f"question{number}"),
            row.text(f"answer{number}"),
            needles,
            {"frames": (f"{frames}",), "kind": (kind,), "cell": (f"{frames} frames, {kind}",)},
        )


def _question(
    identity: str,
    text: str,
    answer: str,
    needles: tuple[Needle, ...],
    categories: dict[str, tuple[str, ...]],
) -> Question:
    options = tuple(option for _, option in OPTION.findall(text))
    return Question(
        id=identity,
        video=HAYSTACK,
        folders=("haystack_videos", "data/haystack_videos", ""),
        text=text,
        options=options,
        gold=lettered_gold(answer, len(options)),
        needles=needles,
        haystack_frames=int(categories["frames"][0]),
        categories=categories,
    )


def _task(name: str, title: str, load: Callable[[Path], list[Question]], kind: str) -> Task:
    return Task(
        name=name,
        title=title,
        load=load,
        prompt=prompt,
        read=read,
        macro_over="cell",
        report_by=("frames", kind),
    )


SINGLE = _task("niah_single", "NIAH, single hop", load_single, "depth")
MULTI = _task("niah_multi", "NIAH, multi hop", load_multi, "kind")
