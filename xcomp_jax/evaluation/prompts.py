"""Builds the prompt of a question, with the subtitles of its video if the protocol lists them."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question, Task


def question_prompt(task: Task, question: Question, folder: Path, *, subtitles: bool) -> str:
    """Returns the text after the time message.

    Args:
        folder: the benchmark's data folder.
        subtitles: list the subtitles of the video; `ProtocolConfig.subtitles`.

    Raises:
        DataError: the benchmark has no subtitles, or LongVideoBench's file is missing or damaged.
    """
    if not subtitles:
        return task.prompt(question, None)
    if task.read_subtitles is None or question.subtitles is None:
        raise DataError(f"{task.title} has no subtitles; set subtitles of the protocol to False")
    return task.prompt(question, task.read_subtitles(folder / question.subtitles))
