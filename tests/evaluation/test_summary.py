"""Tests of scoring the rows of a run."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests.evaluation.examples import OPTIONS, questions, right_answers, rows
from xcomp_jax.config import PublishedScore
from xcomp_jax.evaluation.beside_published import beside_published
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.protocol import load_protocol
from xcomp_jax.evaluation.question import Needle, Question
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.summary import Summary, score_rows
from xcomp_jax.evaluation.tasks import TASKS

LVBENCH = TASKS["lvbench"]


def summary_of(answers: list[str]) -> Summary:
    asked = questions(len(answers))
    return score_rows(LVBENCH, asked, rows(asked, answers))


def test_score_rows_known_answers_means_by_hand() -> None:
    answers = right_answers(questions(40))
    answers[20:30] = ["no idea"] * 10  # half of the sport questions
    summary = summary_of(answers)
    for mode in summary.modes.values():
        assert mode.estimate.mean == mode.expected == 0.75
        assert mode.macro == 0.75
        assert mode.groups["type"]["tv"].mean == 1
        assert mode.groups["type"]["sport"].mean == 0.5
        assert mode.groups["type"]["sport"].error == pytest.approx(math.sqrt(0.25 / 20))
        # Every second question has two labels.
        assert mode.groups["question_type"]["reasoning"].questions == 40
        assert mode.groups["question_type"]["entity recognition"].questions == 20
        assert mode.statuses == {"parsed": 30, "unparsed": 10}
        assert (mode.estimate.questions, mode.estimate.videos) == (40, 10)
    assert (summary.seconds, summary.missing) == (20.0, 0)


def test_score_rows_empty_answers_by_mode() -> None:
    answers = right_answers(questions(40))
    answers[:10] = [""] * 10
    summary = summary_of(answers)
    reference, strict = summary.modes["reference"], summary.modes["strict"]
    assert (reference.estimate.mean, reference.left_out) == (1.0, 10)
    assert (strict.estimate.mean, strict.left_out) == (0.75, 0)
    assert strict.statuses["empty"] == reference.statuses["empty"] == 10
    assert any("25% of the answers name no option" in text for text in summary.warnings)


def test_score_rows_failed_and_missing_counted() -> None:
    asked = questions(40)
    answered = rows(asked, right_answers(asked))[:36]
    answered[0] = dataclasses.replace(answered[0], answer="", error="the file is damaged", frames=0)
    summary = score_rows(LVBENCH, asked, answered)
    assert summary.modes["reference"].estimate.mean == pytest.approx(35 / 36)
    assert summary.modes["reference"].statuses["failed"] == 1
    assert summary.missing == 4
    assert summary.warnings[0].startswith("4 questions have no row")
    assert summary.warnings[1].startswith("1 questions failed and count as wrong")


def test_score_rows_one_letter_warned() -> None:
    summary = summary_of(["A"] * 30 + ["B"] * 10)
    assert summary.letters == {"A": 30, "B": 10}
    assert any("75% of the answers are A" in text for text in summary.warnings)
    assert summary_of(right_answers(questions(40))).warnings == ()


def test_score_rows_group_of_many_videos_clustered() -> None:
    asked = questions(80)  # both types have ten videos of four questions
    answers = right_answers(asked)
    answers[:20] = ["no idea"] * 20  # all questions of five videos of type tv
    mode = score_rows(LVBENCH, asked, rows(asked, answers)).modes["strict"]
    assert mode.groups["type"]["tv"].error == pytest.approx(math.sqrt(0.25 / 10))
    assert mode.groups["type"]["sport"].error == 0
    assert mode.macro_error == pytest.approx(math.sqrt(0.25 / 10) / 2)


def test_score_rows_unparsed_in_any_mode_warned() -> None:
    asked = questions(40)
    answers = ["I would say green"] * 10 + right_answers(asked)[10:]
    assert "25% of the answers name no option in" in summary_of(answers).warnings[0]
    # Texts of options, which only the strict rule reads.
    texts = [OPTIONS[question.gold or 0][4:] for question in asked]
    summary = summary_of(texts)
    assert summary.modes["strict"].statuses == {"parsed": 40}
    assert "100% of the answers name no option in reference mode" in summary.warnings[0]


def test_score_rows_questions_without_gold_warned() -> None:
    asked = questions(40)
    unanswerable = [dataclasses.replace(question, gold=None) for question in asked[:2]] + asked[2:]
    summary = score_rows(LVBENCH, unanswerable, rows(asked, right_answers(asked)))
    (warning,) = summary.warnings
    assert warning.startswith("2 questions have no right answer among their options")


def test_beside_published_unlike_scores_not_compared() -> None:
    """A part of the questions is not set beside a score of all; a macro average has no plain error.

    Errors of a macro average are not those of the mean over questions.
    """
    scores = (
        PublishedScore(system="s", percent=50, source="x", questions=900, group="type=tv"),
        PublishedScore(system="s", percent=50, source="x", questions=2700),
        PublishedScore(system="s", percent=50, source="x", questions=2700, metric="macro"),
    )
    protocol = dataclasses.replace(load_protocol("lvbench"), published=scores)
    summary = summary_of(["no idea", *right_answers(questions(40))[1:]])
    _, everything, macro = beside_published(summary, protocol)
    assert everything.distance is not None
    assert (macro.ours, macro.published_error) == (summary.modes["reference"].macro, None)
    assert macro.error == summary.modes["reference"].macro_error
    part, everything, macro = beside_published(
        summary, dataclasses.replace(protocol, subset="type=tv")
    )
    assert part.ours is not None
    assert everything.ours is macro.ours is None


def test_score_rows_few_videos_warned() -> None:
    (warning,) = summary_of(right_answers(questions(36))).warnings
    assert warning.startswith("9 videos are too few for a reliable error")


def test_score_rows_coverage_over_annotated_questions() -> None:
    summary = summary_of(right_answers(questions(40)))
    assert {name: (share.mean, share.questions) for name, share in summary.covered.items()} == {
        "sampled": (1.0, 20),
        "selected": (1.0, 20),
        "even": (0.0, 20),
    }


def test_score_rows_unusable_rows_refused() -> None:
    asked = questions(4)
    with pytest.raises(DataError, match="nothing was generated for any of 4 questions"):
        summary_of([""] * 4)
    with pytest.raises(DataError, match="none of the 4 rows of lvbench belongs to a question"):
        score_rows(LVBENCH, [dataclasses.replace(asked[0], id="x")], rows(asked, ["A"] * 4))
    twice = rows(asked, ["A"] * 4)
    twice.append(dataclasses.replace(twice[0], key="other"))
    with pytest.raises(DataError, match=r"two rows answer question q0, .* \(keys q0 and other\)"):
        score_rows(LVBENCH, asked, twice)


def test_score_rows_random_answers_expected_value() -> None:
    task = TASKS["longvideobench"]
    asked = [
        Question(
            id=f"q{index}",
            video=f"v{index}",
            text="?",
            options=("a", "b", "c", "d", "e"),
            gold=0,
            categories={"duration": ("15",), "question": ("T2O",), "topic": ("NP",)},
        )
        for index in range(100)
    ]
    answered = [
        dataclasses.replace(row, benchmark="longvideobench")
        for row in rows(asked, ["A"] * 50 + ["no idea"] * 50)
    ]
    reference = score_rows(task, asked, answered).modes["reference"]
    assert reference.statuses == {"parsed": 50, "random": 50}
    assert reference.expected == pytest.approx(0.6)
    assert abs(reference.estimate.mean - 0.6) < 0.1


def test_score_rows_spans_found_by_overlap() -> None:
    asked = [
        Question(
            id=f"q{index}", video="v", text="c.", span=(0.0, 10.0), categories={"length": ("x",)}
        )
        for index in range(3)
    ]
    answered = [
        dataclasses.replace(row, benchmark="charades")
        for row in rows(asked, ["0 - 10", "0 - 6", "20 - 30"])
    ]
    reference = score_rows(TASKS["charades"], asked, answered).modes["reference"]
    assert reference.estimate.mean == pytest.approx(1.6 / 3)
    assert reference.found == pytest.approx({0.3: 2 / 3, 0.5: 2 / 3, 0.7: 1 / 3})


def test_question_cluster_needles_share_images() -> None:
    needle = Question(id="a", video="haystack", text="?", needles=(Needle("a.jpg", 3),))
    assert needle.cluster == "a.jpg"
    assert dataclasses.replace(needle, needles=()).cluster == "videos/haystack"


def test_row_scores_not_trusted_when_read_again() -> None:
    asked = questions(4)
    answered = [
        dataclasses.replace(row, scores={"reference": 0.0}, parsed={"reference": "D"})
        for row in rows(asked, right_answers(asked))
    ]
    assert isinstance(answered[0], Row)
    assert score_rows(LVBENCH, asked, answered).modes["reference"].estimate.mean == 1.0
