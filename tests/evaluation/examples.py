"""A run of LVBench by construction, and its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.evidence.examples import evidence
from xcomp_jax.evaluation.hardest import HardQuestion
from xcomp_jax.evaluation.protocol import departures, load_protocol
from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.report import Report, RunInfo
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.summary import score_rows
from xcomp_jax.evaluation.tasks import TASKS

OPTIONS = ("(A) red", "(B) green", "(C) blue", "(D) white")
TYPES = ("tv", "sport")


def questions(count: int = 40, per_video: int = 4) -> list[Question]:
    """Questions on videos of `per_video` questions; the first half is of type tv."""
    return [
        Question(
            id=f"q{index}",
            video=f"v{index // per_video}",
            text=f"{index}?",
            options=OPTIONS,
            gold=index % 4,
            categories={
                "type": (TYPES[2 * index // count],),
                "question_type": ("reasoning", "entity recognition")[: 1 + index % 2],
            },
            evidence=((1.0, 2.0),) if index % 2 else (),
        )
        for index in range(count)
    ]


def rows(asked: Sequence[Question], answers: Sequence[str]) -> list[Row]:
    return [
        Row(
            key=question.id,
            benchmark="lvbench",
            id=question.id,
            video=question.video,
            prompt_hash="p",
            frames=128,
            answer=answer,
            gold="ABCD"[question.gold or 0],
            covered={"sampled": True, "selected": True, "even": False} if question.evidence else {},
            seconds=0.5,
        )
        for question, answer in zip(asked, answers, strict=True)
    ]


def right_answers(asked: Sequence[Question]) -> list[str]:
    return ["ABCD"[question.gold or 0] for question in asked]


def hardest(asked: Sequence[Question]) -> tuple[HardQuestion, ...]:
    """Two wrong answers, with and without pictures."""
    shown = evidence()
    return tuple(
        HardQuestion(
            question=question,
            answer="no idea <b>",
            parsed="",
            gold="ABCD"[question.gold or 0],
            group="tv",
            group_score=0.25,
            evidence=entry,
            page=f"evidence/{question.id}.html",
        )
        for question, entry in zip(
            asked, (shown, dataclasses.replace(shown, thumbnails=())), strict=False
        )
    )


def report(command: str = "xcomp evaluate --benchmark lvbench") -> Report:
    """Three quarters of the answers are right; the protocol differs in one setting."""
    asked = questions()
    answers = right_answers(asked)
    answers[::4] = ["no idea"] * len(answers[::4])
    published = load_protocol("lvbench")
    protocol = dataclasses.replace(published, dtype="bfloat16")
    return Report(
        task=TASKS["lvbench"],
        summary=score_rows(TASKS["lvbench"], asked, rows(asked, answers)),
        protocol=protocol,
        departures=departures(protocol, published),
        hardest=hardest(asked),
        info=RunInfo(
            command=command,
            checkpoint="checkpoints/<xcomp>",
            checkpoint_hash="0123abcd",
            question_set="40 questions on 10 videos",
            version="0.1.0",
            devices="1 CPU",
        ),
    )
