"""Reads the annotation files of benchmarks: JSON lists, JSON lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question
from xcomp_jax.files import read_text

Row = dict[str, Any]


def annotation_files(folder: Path, *layouts: str) -> list[Path]:
    """Returns the files of the first layout (a glob pattern) that `folder` has, sorted by name.

    Raises:
        DataError: no such folder, or none of the layouts.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; pass the folder that holds the benchmark's data"
        )
    for layout in layouts:
        if files := sorted(folder.glob(layout)):
            return files
    entries = sorted(entry.name for entry in folder.iterdir())[:8]
    raise DataError(
        f"{folder} has no annotations: expected one of {', '.join(layouts)}; it holds "
        f"{', '.join(entries) or 'nothing'}"
    )


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a .json, .jsonl or .parquet file.

    Raises:
        DataError: the file is damaged, or its rows are not mappings.
    """
    try:
        rows = _parse(path)
    except ImportError as error:
        raise DataError(
            f"{path} needs the package pyarrow: pip install 'xcomp-jax[evaluation]'"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} must hold a list of objects, one per question")
    if not rows:
        raise DataError(f"{path} holds no questions; download it again")
    return rows


def _parse(path: Path) -> Any:
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet  # a heavy import that only this format needs

        return parquet.read_table(path).to_pylist()
    text = read_text(path)
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return json.loads(text)


class Fields:
    """Typed access to a row; errors name file, row and field."""

    def __init__(self, row: Mapping[str, Any], path: Path, index: int) -> None:
        self.row = row
        self.where = f"{path} row {index}"

    def text(self, name: str) -> str:
        """Returns a string; a number is converted."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(name, value, "a string")
        return str(value)

    def number(self, name: str) -> float:
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        return float(value)

    def integer(self, name: str) -> int:
        """Returns a whole number, also one stored as text."""
        text = self.text(name)
        try:
            return int(text)
        except ValueError:
            raise self._wrong(name, text, "a whole number") from None

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns a list of strings; one string becomes a list of one."""
        value = self._value(name)
        if isinstance(value, str):
            return (value,)
        is_list = isinstance(value, list | tuple)
        if not is_list or not all(isinstance(item, str | int | float) for item in value):
            raise self._wrong(name, value, "a list of strings")
        return tuple(str(item) for item in value)

    def span(self, start: str, end: str) -> tuple[float, float] | None:
        """Returns the numbers of two fields; None if the row lacks either or it is null."""
        if self.row.get(start) is None or self.row.get(end) is None:
            return None
        return self.number(start), self.number(end)

    def _value(self, name: str) -> Any:
        if self.row.get(name) is None:
            state = "is null" if name in self.row else "is missing"
            raise DataError(
                f"{self.where}: field {name!r} {state}; the row has {', '.join(self.row)}. "
                "Use the benchmark's own annotation file"
            )
        return self.row[name]

    def _wrong(self, name: str, value: Any, expected: str) -> DataError:
        return DataError(f"{self.where}: field {name!r} is {value!r}, expected {expected}")


def fields_of(path: Path) -> list[Fields]:
    """Reads a file's rows for typed access; rows are counted from 0."""
    return [Fields(row, path, index) for index, row in enumerate(read_rows(path))]


def entries_by_video(path: Path) -> list[tuple[str, str, Row]]:
    """Reads JSON objects of lists, {video: {name: [entry, ...]}}, as (video, name, entry).

    Values of other types, such as a video's metadata, are left out.

    Raises:
        DataError: the file is damaged, or has no such lists.
    """
    try:
        videos = _parse(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    groups = videos if isinstance(videos, dict) else {}
    entries = [
        (video, name, entry)
        for video, lists in groups.items()
        if isinstance(lists, dict)
        for name, values in lists.items()
        if isinstance(values, list)
        for entry in values
        if isinstance(entry, dict)
    ]
    if not entries:
        raise DataError(f"{path} must hold lists of questions by video; download it again")
    return entries


def gold_of(options: Sequence[str], answer: str) -> int | None:
    """Returns the index of the first option that equals `answer`, None without one."""
    return options.index(answer) if answer in options else None


def lettered_gold(letter: str, count: int) -> int | None:
    """Returns the index of a letter such as "B" or "(B)" among `count` options, else None."""
    index = "ABCDEFGH".find(letter.strip("() ")[:1] or "-")
    return index if 0 <= index < count else None


def require_distinct(questions: Iterable[Question]) -> list[Question]:
    """Returns the questions as a list.

    Raises:
        DataError: two questions have the same id.
    """
    by_id: dict[str, Question] = {}
    for question in questions:
        if question.id in by_id:
            raise DataError(
                f"two questions have the id {question.id!r} (videos {by_id[question.id].video} and "
                f"{question.video}); remove the duplicate from the annotations"
            )
        by_id[question.id] = question
    return list(by_id.values())
