"""Tests of answer scoring against the published rules and against public per-question logs."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.parity.cases import Case
from xcomp_jax.evaluation.question import Question, prompt_hash
from xcomp_jax.evaluation.scoring import (
    intersection_over_union,
    longvideobench_letter,
    lvbench_letter,
    perceptiontest_letter,
    published_span,
    strict_letter,
    strict_span,
    videomme_letter,
)
from xcomp_jax.evaluation.tasks import TASKS

OPTIONS = ("red", "green", "blue", "white")
LVBENCH_QUESTIONS = {
    "cartoon-0": (
        "What year appears in the opening caption of the video?",
        ("(A) 1636", "(B) 1366", "(C) 1363", "(D) 1633"),
    ),
    "cartoon-1": (
        "How is the weather like in the opening?",
        ("(A) Cloudy", "(B) Snowy", "(C) Sunny", "(D) Rainy"),
    ),
}
"""Questions of the benchmark with a recorded prompt."""


def recorded_rows(case: Case) -> list[dict[str, Any]]:
    with gzip.open(case.dir / "rows.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def question(row: dict[str, Any]) -> Question:
    options = tuple(f"({letter}) {text}" for letter, text in zip("ABCD", OPTIONS, strict=True))
    return Question(
        id=row["id"], video="v", text="?", options=options, gold="ABCD".index(row["gold"])
    )


@pytest.mark.golden("answer_scoring")
def test_letters_recorded_answers_equal(case: Case) -> None:
    entries = case.json("parse_cases.json")["multiple_choice"]
    wrong = 0
    for entry in entries:
        answer = entry["response"]
        lvbench = lvbench_letter(answer)
        for gold, score in entry["mcq_score_by_gold"].items():
            assert (lvbench == gold) == bool(score), answer
        assert videomme_letter(answer) == entry["videomme_letter"], answer
        assert perceptiontest_letter(answer) == entry["perceptiontest_letter"], answer
        assert (longvideobench_letter(answer, OPTIONS) or "RANDOM") == entry[
            "longvideobench_letter"
        ], answer
        wrong += strict_letter(answer, OPTIONS) != entry["videomme_letter"]
    assert wrong > 10  # Control: another rule is told apart.


@pytest.mark.golden("answer_scoring")
def test_spans_recorded_answers_equal(case: Case) -> None:
    recorded = case.json("parse_cases.json")["temporal_grounding"]
    differing = 0
    for entry in recorded["cases"]:
        span = published_span(entry["response"])
        assert ([] if span is None else [list(span)]) == entry["spans"], entry["response"]
        overlaps = [
            0.0 if span is None else intersection_over_union((first, last), span)
            for first, last in recorded["gts"]
        ]
        assert overlaps == pytest.approx(entry["iou"], abs=5e-7), entry["response"]
        differing += strict_span(entry["response"]) != span
    assert differing >= 5  # Control: the strict rule finds spans that the published one misses.


@pytest.mark.golden("answer_scoring")
def test_scores_public_logs_equal(case: Case) -> None:
    rows = recorded_rows(case)
    assert len(rows) > 200
    differing = 0
    for row in rows:
        reference = TASKS[row["bench"]].read(question(row), row["response"])["reference"]
        assert reference.score == row["score"], row
        assert reference.parsed == row.get("parsed", reference.parsed), row
        shifted = "BCDA"["ABCD".index(row["gold"])]
        differing += reference.score != (reference.parsed == shifted)
    assert differing > len(rows) / 4  # Control: another gold letter changes scores.


@pytest.mark.golden("answer_scoring")
def test_prompts_public_logs_byte_equal(case: Case) -> None:
    hashes = {row["id"]: row["prompt_sha"] for row in recorded_rows(case) if "prompt_sha" in row}
    for identity, (text, options) in LVBENCH_QUESTIONS.items():
        asked = Question(id=identity, video="v", text=text, options=options, gold=0)
        prompt = TASKS["lvbench"].prompt(asked, None)
        assert prompt_hash(prompt) == hashes[identity]
        assert prompt_hash(TASKS["mlvu"].prompt(asked, None)) != hashes[identity]
