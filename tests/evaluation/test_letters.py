"""Tests of the letter rules in all scoring modes."""

from __future__ import annotations

import pytest

from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.scoring import (
    choice_readings,
    lmms_eval_letter,
    longvideobench_letter,
    lvbench_letter,
    needle_readings,
    perceptiontest_letter,
    random_index,
    strict_letter,
    videomme_letter,
)
from xcomp_jax.evaluation.tasks import TASKS

OPTIONS = ("red", "green", "blue", "white")

# Columns: answer; LVBench, MLVU, MVBench; Video-MME; PerceptionTest; LongVideoBench ("" is random);
# strict; lmms-eval.
TRAPS = [
    ("b", "B", "", "", "", "B", ""),
    ("D. (a)(c)(b).", "D", "D", "D", "D", "D", "D"),
    ("Answer: D", "D", "A", "D", "D", "D", "D"),
    ("It is a cat", "A", "", "", "", "", ""),
    ("A dog runs", "A", "A", "A", "A", "", "A"),
    ("B)", "B", "B", "B", "", "B", "B"),
    ("B, because it is a cat", "B", "B", "B", "", "B", "B"),
    ("C. A man", "C", "C", "C", "A", "C", "C"),
    ("Best option: (C) walking", "C", "B", "C", "C", "C", "C"),
    ("Correct option is D", "D", "C", "D", "D", "D", "D"),
    ("A, B", "A", "A", "A", "B", "", "A"),
    ("E", "E", "", "", "", "", ""),
    ("AB", "", "A", "", "B", "", "B"),
    ("", "", "", "", "", "", ""),
    ("(A) or (B)", "A", "A", "A", "B", "", "B"),
    ("The answer is C because D is wrong", "C", "C", "C", "D", "C", "D"),
    ("in a CD shop", "A", "C", "", "D", "", "D"),
    ("DVD", "", "D", "", "D", "", "D"),
    ("Option B: A DOG", "B", "B", "B", "A", "B", "B"),
]


@pytest.mark.parametrize("trap", TRAPS, ids=[trap[0] or "empty" for trap in TRAPS])
def test_letters_traps_as_documented(trap: tuple[str, ...]) -> None:
    answer, *expected = trap
    assert [
        lvbench_letter(answer),
        videomme_letter(answer),
        perceptiontest_letter(answer),
        longvideobench_letter(answer, OPTIONS),
        strict_letter(answer, OPTIONS),
        lmms_eval_letter(answer, "ABCD"),
    ] == expected


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("green", "B"),
        ("Green.", "B"),
        ("greenish", ""),
        ("[b]", "B"),
        ("the correct answer is (d)", "D"),
        ("My choice is A because it is red", "A"),
        ("the answer is a dog", ""),
        ("the answer is B or C", ""),
        ("the answer is B. No, the answer is C.", ""),
        ("I think so", ""),
        ("A-list actors", ""),
    ],
)
def test_strict_letter_wording_read(answer: str, letter: str) -> None:
    assert strict_letter(answer, OPTIONS) == letter


def test_strict_letter_labelled_option_text_read() -> None:
    assert strict_letter("Apples", ("A. Pears.", "B. Apples.")) == "B"
    assert strict_letter("1366", ("(A) 1636", "(B) 1366")) == "B"


def test_longvideobench_content_in_long_answer_found() -> None:
    long = "i think that the car was green then white"
    assert longvideobench_letter(long, OPTIONS) == "D"
    assert longvideobench_letter("it was green", OPTIONS) == ""


def test_longvideobench_letter_inside_word_loses() -> None:
    assert longvideobench_letter("A xB", OPTIONS) == "A"
    assert longvideobench_letter("xB", OPTIONS) == "B"


def test_lvbench_letter_first_32_periods_removed() -> None:
    assert lvbench_letter("w." * 31 + " e.g") == ""
    assert lvbench_letter("w." * 32 + " e.g") == "E"


def test_lmms_eval_letter_ranks_last_wins() -> None:
    assert lmms_eval_letter("The answer is A. No, the best answer is B then", "ABCD") == "B"
    assert lmms_eval_letter("The answer is D, not C or D", "ABCD") == "D"
    assert lmms_eval_letter("정답은 C 입니다", "ABCD") == "C"
    assert lmms_eval_letter("(A) is wrong, so (C) it is", "ABCD") == "C"


def test_choice_readings_empty_answer_by_rule() -> None:
    skipped = choice_readings(" \n", OPTIONS, 0, lambda *_: "", skips_empty=True)
    assert not skipped["reference"].counted
    assert skipped["strict"].counted
    assert {reading.status for reading in skipped.values()} == {"empty"}
    counted = choice_readings("", OPTIONS, 0, lambda *_: "")
    assert counted["reference"].counted
    assert counted["reference"].score == 0


def test_random_fallback_seeded_with_expected_value() -> None:
    questions = [
        Question(id=f"q{index}", video="v", text="?", options=OPTIONS, gold=1)
        for index in range(2000)
    ]
    read = TASKS["longvideobench"].read
    readings = [read(question, "no idea")["reference"] for question in questions]
    assert readings == [read(question, "no idea")["reference"] for question in questions]
    assert {reading.status for reading in readings} == {"random"}
    assert {reading.expected for reading in readings} == {0.25}
    mean = sum(reading.score for reading in readings) / len(readings)
    assert abs(mean - 0.25) < 0.03
    assert {random_index(question.id, 4) for question in questions} == {0, 1, 2, 3}
    strict = read(questions[0], "no idea")["strict"]
    assert (strict.score, strict.status) == (0, "unparsed")


def test_choice_readings_without_gold_never_right() -> None:
    for answer in ("A", "B", "C", "D", "red", "no idea"):
        readings = choice_readings(
            answer, OPTIONS, None, longvideobench_letter, random_key="question"
        )
        assert all(reading.score == reading.expected == 0 for reading in readings.values())


def test_choice_readings_equal_options_both_right_if_strict() -> None:
    readings = choice_readings("C", ("red", "blue", "Red"), 0, lambda text, _: text)
    assert readings["reference"].score == 0
    assert readings["strict"].score == 1


def test_needle_readings_brackets_and_case_ignored() -> None:
    for text, score in (("(B", 1), ("b", 1), ("C", 0), (" B", 0)):
        assert needle_readings(text, OPTIONS, 1, "B")["reference"].score == score
    assert needle_readings(" B", OPTIONS, 1, "B")["strict"].score == 1
