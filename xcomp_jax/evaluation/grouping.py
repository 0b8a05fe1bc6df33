"""Chooses a run's questions, groups them by video and divides the videos among processes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.scoring import Span


@dataclasses.dataclass(frozen=True)
class VideoGroup:
    """All chosen questions about one video, in the order of the benchmark."""

    questions: tuple[Question, ...]

    @property
    def by_clip(self) -> list[tuple[Span | None, list[Question]]]:
        """Questions by the part of the video that they are about; None is the whole video."""
        clips: dict[Span | None, list[Question]] = {}
        for question in self.questions:
            clips.setdefault(question.clip, []).append(question)
        return list(clips.items())


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part `index` of `count` equal parts of a run."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parses "i/n".

        Raises:
            ValueError: it is not i/n with 0 <= i < n.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise ValueError(f"{text!r} is not I/N with I from 0 to N - 1, such as 0/4")
        return cls(int(match[1]), int(match[2]))

    def of(self, groups: Sequence[VideoGroup]) -> list[VideoGroup]:
        """Returns the videos of this part; the parts of all indices have every video once."""
        return list(groups[self.index :: self.count])


def choose_questions(
    questions: Sequence[Question], *, limit: int | None = None, ids: Sequence[str] = ()
) -> list[Question]:
    """Returns the questions with `ids`, or all, and of these the first `limit`.

    Raises:
        DataError: a question of `ids` does not exist.
    """
    chosen = list(questions)
    if ids:
        known = {question.id for question in questions}
        if unknown := [name for name in ids if name not in known]:
            raise DataError(
                f"no question has the id {unknown[0]!r}; several ids are separated by spaces, and "
                f"look like {', '.join(repr(question.id) for question in questions[:3])}"
            )
        chosen = [question for question in questions if question.id in set(ids)]
    return chosen[:limit]


def group_by_video(questions: Sequence[Question]) -> list[VideoGroup]:
    """Groups questions by `Question.video_key`, in the order of first appearance."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.video_key, []).append(question)
    return [VideoGroup(tuple(group)) for group in groups.values()]
