"""Tests of comparing two runs that were made by construction."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests.evaluation.examples import questions, right_answers, rows
from xcomp_jax.evaluation.comparison import compare_runs
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.tasks import TASKS

LVBENCH = TASKS["lvbench"]


def test_compare_runs_known_answers_textbook_values() -> None:
    asked = questions(100, per_video=1)
    first, second = right_answers(asked), right_answers(asked)
    first[:20] = ["no idea"] * 20  # wrong in the first run alone
    second[20:30] = ["no idea"] * 10  # wrong in the second run alone
    comparison = compare_runs(LVBENCH, asked, rows(asked, first), rows(asked, second))
    result = comparison.result
    assert (result.only_first, result.only_second, comparison.questions) == (10, 20, 100)
    assert result.difference == pytest.approx(0.1)
    assert result.mcnemar_p == pytest.approx(0.0987, abs=1e-4)
    assert result.clustered_error == pytest.approx(math.sqrt(0.29 / 100))
    assert "difference +10.0 points (" in comparison.text
    assert "10 in the first, 20 in the second; McNemar p = 0.0987" in comparison.text


def test_compare_runs_other_order_and_gaps_paired_by_id() -> None:
    asked = questions(40)
    answers = right_answers(asked)
    first, second = rows(asked, answers)[:30], rows(asked, answers)[:9:-1]
    second[0] = dataclasses.replace(second[0], prompt_hash="other")
    second[-1] = dataclasses.replace(second[-1], prompt_hash="other")
    comparison = compare_runs(LVBENCH, asked, first, second)
    assert comparison.result.difference == 0
    assert comparison.questions == 20
    assert (comparison.only_first_answered, comparison.only_second_answered) == (10, 10)
    assert comparison.other_prompts == 1
    assert "left out: 20 questions that only one run has answered" in comparison.text


def test_compare_runs_empty_answers_by_mode() -> None:
    asked = questions(40)
    answers = right_answers(asked)
    some_empty = ["", *answers[1:]]
    first, second = rows(asked, answers), rows(asked, some_empty)
    assert compare_runs(LVBENCH, asked, first, second).questions == 40
    assert compare_runs(LVBENCH, asked, first, second, "reference").questions == 39


def test_compare_runs_failed_questions_stated() -> None:
    asked = questions(40)
    first, second = (rows(asked, right_answers(asked)) for _ in range(2))
    second[0] = dataclasses.replace(second[0], answer="", error="damaged", prompt_hash="")
    comparison = compare_runs(LVBENCH, asked, first, second)
    assert (comparison.failed, comparison.other_prompts) == (1, 0)
    assert "warning: 1 questions failed in a run and count as wrong" in comparison.text


def test_compare_runs_overlaps_not_called_right() -> None:
    asked = [Question(id=f"{i}", video=f"{i}", text="c.", span=(0.0, 10.0)) for i in range(4)]
    first = [dataclasses.replace(row, benchmark="charades") for row in rows(asked, ["0 - 5"] * 4)]
    second = [dataclasses.replace(row, answer="0 - 6") for row in first]
    text = compare_runs(TASKS["charades"], asked, first, second).text
    assert "larger overlap: 0 in the first, 4 in the second; sign test p = 0.125" in text
    assert "right in one run" not in text


def test_compare_runs_nothing_in_common_refused() -> None:
    asked = questions(40)
    answered = rows(asked, right_answers(asked))
    with pytest.raises(DataError, match="no question of lvbench in common"):
        compare_runs(LVBENCH, asked, answered[:10], answered[20:])
