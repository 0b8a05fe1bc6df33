"""Scoring rules: what an answer says, and whether it is right. Pure functions of text.

`choice_readings`, `span_readings` and `needle_readings` score an answer in all modes at once.
"""

from xcomp_jax.evaluation.scoring.choice import choice_readings, letter_at, random_index
from xcomp_jax.evaluation.scoring.grounding import (
    Span,
    intersection_over_union,
    published_span,
    span_readings,
    strict_span,
)
from xcomp_jax.evaluation.scoring.lmms_eval import lmms_eval_letter
from xcomp_jax.evaluation.scoring.needle import needle_readings
from xcomp_jax.evaluation.scoring.published import (
    longvideobench_letter,
    lvbench_letter,
    perceptiontest_letter,
    videomme_letter,
)
from xcomp_jax.evaluation.scoring.reading import MODES, Mode, Reading, Readings, Status
from xcomp_jax.evaluation.scoring.strict import strict_letter

__all__ = [
    "MODES",
    "Mode",
    "Reading",
    "Readings",
    "Span",
    "Status",
    "choice_readings",
    "intersection_over_union",
    "letter_at",
    "lmms_eval_letter",
    "longvideobench_letter",
    "lvbench_letter",
    "needle_readings",
    "perceptiontest_letter",
    "published_span",
    "random_index",
    "span_readings",
    "strict_letter",
    "strict_span",
    "videomme_letter",
]
