"""Runs a benchmark's questions: about videos, or about needles in a haystack."""

from __future__ import annotations

from collections.abc import Callable

from xcomp_jax.evaluation.grouping import Shard, VideoGroup
from xcomp_jax.evaluation.haystack.run import run_needles
from xcomp_jax.evaluation.runner import Evaluation, run_questions


def run_benchmark(
    evaluation: Evaluation,
    shard: Shard | None = None,
    *,
    progress: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    on_video: Callable[[VideoGroup, float], None] | None = None,
) -> bool:
    """Answers the missing questions of one part; returns False if `should_stop` ended it.

    `on_video` is called with each video whose questions were answered and the seconds they took;
    needles have no videos.

    Raises: as `runner.run_questions` and `haystack.run.run_needles`.
    """
    if evaluation.questions[0].needles:
        return run_needles(evaluation, shard, progress=progress, should_stop=should_stop)
    return run_questions(
        evaluation, shard, progress=progress, should_stop=should_stop, on_video=on_video
    )
