"""Formats progress and costs of answers for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcomp_jax.inference.answer import Answer


class Bars:
    """Shows progress on stderr, one bar per unit of work; a context manager."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __call__(self, name: str, done: int, total: int) -> None:
        """Updates the bar of unit `name`."""
        from xcomp_jax.terminal.progress import ProgressBar

        if self._bar is None or name != self._name:
            self.__exit__()
            self._bar, self._name = ProgressBar(desc=name, unit=name.rstrip("s"), leave=False), name
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def answer_line(answers: Sequence[Answer], seconds: float) -> str:
    """Formats one sentence: the frames, and the time that the answers took."""
    from xcomp_jax.evidence.wording import duration_text, frame_count

    first, count = answers[0], len(answers)
    text = f"{frame_count(first.num_frames)} of {duration_text(first.duration)}"
    if first.selected_frames is not None:
        text += f", {len(first.selected_frames):,} selected"
    text += ", answered" if count == 1 else f", {count} questions answered"
    return f"{text} in {duration_text(seconds)}"


def cost_line(answer: Answer) -> str:
    """Formats an answer's costs as one line: wall time, busy time by step, work."""
    parts = [f"wall {answer.wall_seconds:.2f} s"]
    parts.append("  ".join(f"{step} {seconds:.2f} s" for step, seconds in answer.seconds.items()))
    parts.append("  ".join(f"{count} {name}" for name, count in answer.work.items() if count))
    return "   ".join(part for part in parts if part)
