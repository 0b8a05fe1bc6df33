"""Tests of recognising published question sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.evaluation import layouts
from xcomp_jax.evaluation import question_sets
from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.question_sets import KNOWN, QuestionSet, recognise, set_hash
from xcomp_jax.evaluation.tasks import TASKS


def questions(count: int) -> list[Question]:
    return [
        Question(
            id=f"q{index}", video=f"v{index % 3}", text=f"{index}?", options=("a", "b"), gold=0
        )
        for index in range(count)
    ]


def test_set_hash_contents_only(tmp_path: Path) -> None:
    ours = TASKS["lvbench"].load(layouts.lvbench(tmp_path / "json"))
    original = TASKS["lvbench"].load(layouts.lvbench_original(tmp_path / "original"))
    assert set_hash(ours) == set_hash(original) == set_hash(ours[::-1])
    for change in ({"gold": 0}, {"text": "Another?"}, {"options": ("a", "b", "c", "d")}):
        changed = [dataclasses.replace(ours[0], **change), *ours[1:]]  # type: ignore[arg-type]
        assert set_hash(changed) != set_hash(ours)
    assert set_hash(ours[1:]) != set_hash(ours)


def test_recognise_sets_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller, larger = questions(5), questions(7)
    known = (
        QuestionSet("lvbench", "smaller", 5, 3, set_hash(smaller), "here"),
        QuestionSet("lvbench", "larger", 7, 3, set_hash(larger), "there"),
        QuestionSet("mlvu", "sized", 6, 3, "", "elsewhere"),
    )
    monkeypatch.setattr(question_sets, "KNOWN", known)
    assert recognise("lvbench", smaller).known is known[0]
    assert recognise("lvbench", larger).text == (
        f"7 questions on 3 videos, hash {set_hash(larger)}: the published set 'larger' (there)"
    )
    assert "no published set; known ones are smaller (5), larger (7)" in (
        recognise("lvbench", questions(6)).text
    )
    assert recognise("mlvu", larger).known is None
    assert "as many as the published set 'sized', whose hash is unknown" in (
        recognise("mlvu", questions(6)).text
    )


def test_known_sets_distinct_and_of_tasks() -> None:
    assert {known.task for known in KNOWN} <= set(TASKS)
    digests = [known.digest for known in KNOWN if known.digest]
    assert len(set(digests)) == len(digests)
    lvbench = {known.name: known.questions for known in KNOWN if known.task == "lvbench"}
    assert lvbench == {"XComp": 1492, "VideoChat-Flash": 1519, "original": 1549}
