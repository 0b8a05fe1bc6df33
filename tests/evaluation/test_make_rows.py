"""Tests of building the rows of answered and failed questions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.evaluation.examples import questions
from xcomp_jax.evaluation.make_rows import answer_row, failed_row, gold_text
from xcomp_jax.evaluation.question import Question, prompt_hash
from xcomp_jax.evaluation.rows import RowWriter, read_run
from xcomp_jax.evaluation.summary import score_rows
from xcomp_jax.evaluation.tasks import TASKS

LVBENCH = TASKS["lvbench"]
TIMES = [float(second) for second in range(16)]


def spanned(start: float, end: float) -> Question:
    return dataclasses.replace(questions(4)[0], evidence=((start, end),))


def test_answer_row_selected_against_even_frames() -> None:
    row = answer_row(
        LVBENCH,
        spanned(11, 12),
        key="k",
        prompt="p",
        answer="A dog",
        frame_times=TIMES,
        selected_frames=[3, 12],
    )
    # Two of 16 frames, evenly spread, are 4 and 12.
    assert row.covered == {"sampled": True, "selected": True, "even": True}
    assert (row.frames, row.selected_frames, row.gold) == (16, (3, 12), "A")
    assert row.parsed == {"reference": "A", "strict": "", "lmms_eval": "A"}
    assert row.scores == {"reference": 1.0, "strict": 0.0, "lmms_eval": 1.0}
    assert row.prompt_hash == prompt_hash("p")
    missed = answer_row(
        LVBENCH,
        spanned(2.9, 3.1),
        key="k",
        prompt="p",
        answer="A",
        frame_times=TIMES,
        selected_frames=[3, 7],
    )
    assert missed.covered == {"sampled": True, "selected": True, "even": False}


def test_answer_row_all_frames_or_no_span_covered() -> None:
    whole = answer_row(LVBENCH, spanned(20, 30), key="k", prompt="p", answer="A", frame_times=TIMES)
    assert (whole.covered, whole.selected_frames) == ({"sampled": False}, None)
    unknown = dataclasses.replace(spanned(0, 1), evidence=())
    row = answer_row(LVBENCH, unknown, key="k", prompt="p", answer="A", frame_times=TIMES)
    assert row.covered == {}


def test_rows_of_a_run_scored_after_reading(tmp_path: Path) -> None:
    asked = questions(4)
    with RowWriter(tmp_path / "rows-0.jsonl") as writer:
        for question in asked[:3]:
            writer.append(
                answer_row(
                    LVBENCH,
                    question,
                    key=question.id,
                    prompt=LVBENCH.prompt(question, None),
                    answer=gold_text(question),
                    frame_times=TIMES,
                )
            )
        writer.append(failed_row(LVBENCH, asked[3], key="q3", error="the file is damaged"))
    summary = score_rows(LVBENCH, asked, read_run(tmp_path).values())
    assert {mode.estimate.mean for mode in summary.modes.values()} == {0.75}


def test_gold_text_letter_span_or_nothing() -> None:
    base = Question(id="q", video="v", text="?", options=("a", "b"))
    assert gold_text(dataclasses.replace(base, gold=1)) == "B"
    assert gold_text(dataclasses.replace(base, span=(1.0, 2.5))) == "1-2.5"
    assert gold_text(base) == ""
