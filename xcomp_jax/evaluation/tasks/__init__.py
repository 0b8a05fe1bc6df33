"""The benchmarks, one file each: where the questions are, the prompt, and the rule of scoring.

To add one, write a file with `load`, `prompt`, `read` and a `Task`, and list the task here.
"""

from __future__ import annotations

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Task
from xcomp_jax.evaluation.tasks import (
    charades,
    longvideobench,
    lvbench,
    mlvu,
    mvbench,
    niah,
    perceptiontest,
    tempcompass,
    videomme,
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        lvbench.TASK,
        mlvu.TASK,
        longvideobench.TASK,
        videomme.TASK,
        mvbench.TASK,
        perceptiontest.TASK,
        charades.TASK,
        niah.SINGLE,
        niah.MULTI,
        tempcompass.TASK,
    )
}


def task_named(name: str) -> Task:
    """Returns a task.

    Raises:
        DataError: unknown name.
    """
    if name not in TASKS:
        known = ", ".join((*TASKS, "videomme_subtitles"))
        raise DataError(f"unknown benchmark {name!r}; known: {known}")
    return TASKS[name]


__all__ = ["TASKS", "task_named"]
