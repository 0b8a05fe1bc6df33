"""Scores the answer to a question about a needle in a haystack.

Source of the reference rule: `xtuner-eval_niah/vision_niah/single_eval_vision_niah.py` of
github.com/OpenGVLab/VideoChat-Flash. There the answer is not generated: the most likely token at
each position of the gold answer, given the gold tokens before it, is compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.evaluation.scoring.choice import choice_readings
from xcomp_jax.evaluation.scoring.reading import Reading, Readings, status_of


def needle_readings(answer: str, options: Sequence[str], gold: int, gold_text: str) -> Readings:
    """Scores the text of the most likely tokens at the answer's positions.

    Reference mode compares it with `gold_text` in one case and without round brackets; spaces
    count. The other modes read it as a letter.
    """
    parsed = answer.lower().replace("(", "").replace(")", "")
    score = float(parsed == gold_text.lower())
    readings = choice_readings(answer, options, gold, lambda text, _: text)
    reference = Reading(parsed, score, status_of(answer, parsed.strip()), expected=score)
    return {**readings, "reference": reference}
