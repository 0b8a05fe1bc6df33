"""Questions about generated videos: listed options, and no information in the text."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest

from xcomp_jax.data.synthetic.questions import KINDS, questions
from xcomp_jax.data.synthetic.video_spec import plan_specs


def test_questions_list_their_options_and_answer() -> None:
    for spec in plan_specs(0, 32):
        for question in questions(spec):
            assert question.answer in question.options
            assert all(option in question.text for option in question.options)
    spec = plan_specs(0, 1)[0]
    assert [q.kind for q in questions(spec, ("shape", "color"))] == ["shape", "color"]
    with pytest.raises(ValueError, match=r"'size' is unknown; known: .*'color'"):
        questions(spec, ("size",))


def test_questions_text_alone_stays_at_chance() -> None:
    """The best constant answer per training text reaches 1/4 on the evaluation texts."""
    train, evaluation = (
        [q for spec in plan_specs(seed, 160) for q in questions(spec)] for seed in (0, 1)
    )
    votes = collections.defaultdict(collections.Counter)
    for question in train:
        votes[question.text][question.answer] += 1
    for kind in KINDS:
        rows = [q for q in evaluation if q.kind == kind]
        assert len({q.text for q in rows}) == 1, "the text of a kind must be constant"
        guess = votes[rows[0].text].most_common(1)[0][0]
        assert np.mean([q.answer == guess for q in rows]) == 0.25, kind


def test_questions_answers_are_independent_of_each_other() -> None:
    """Checked among videos with a flash, since "never" implies that there is no flash color."""
    answers_by_video = [{q.kind: q.answer for q in questions(spec)} for spec in plan_specs(2, 1600)]
    for known, predicted in itertools.permutations(KINDS, 2):
        pairs = collections.Counter(
            (answers[known], answers[predicted])
            for answers in answers_by_video
            if known in answers and predicted in answers and answers["flash_moment"] != "never"
        )
        best = sum(
            max(count for (a, _), count in pairs.items() if a == known_answer)
            for known_answer in {a for a, _ in pairs}
        )
        chance = 1 / len({b for _, b in pairs})
        assert best / pairs.total() < chance + 0.06, (known, predicted)
