"""Scores the answer to a multiple-choice question in all modes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from xcomp_jax.evaluation.scoring.lmms_eval import lmms_eval_letter
from xcomp_jax.evaluation.scoring.reading import Reading, Readings, status_of
from xcomp_jax.evaluation.scoring.strict import option_text, strict_letter

PublishedRule = Callable[[str, Sequence[str]], str]
"""Returns the letter of (answer, options), or an empty string."""


def letter_at(index: int) -> str:
    """Returns the letter of the option at `index`: A, B, ..."""
    return chr(ord("A") + index)


def choice_readings(
    answer: str,
    options: Sequence[str],
    gold: int | None,
    published: PublishedRule,
    *,
    skips_empty: bool = False,
    random_key: str | None = None,
) -> Readings:
    """Scores an answer in all modes.

    Args:
        answer: generated text; like the published harness, the function strips it first.
        options: the option texts.
        gold: index of the right option; None if the data set names none, so that no answer scores.
        published: letter rule of the benchmark's reference mode.
        skips_empty: the reference mode leaves empty answers out of the mean.
        random_key: text that seeds the random choice of an option where the published rule finds
            none; None if it counts such an answer as wrong.
    """
    answer = answer.strip()
    letters = [letter_at(index) for index in range(len(options))]
    gold_letter = None if gold is None else letters[gold]
    return {
        "reference": _reference(
            answer, letters, gold_letter, published(answer, options), skips_empty, random_key
        ),
        "strict": _strict(answer, options, gold),
        "lmms_eval": _plain(answer, lmms_eval_letter(answer, letters), gold_letter),
    }


def random_index(key: str, count: int) -> int:
    """Returns a number below `count` that depends on `key` alone, on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


def _reference(
    answer: str,
    letters: Sequence[str],
    gold: str | None,
    parsed: str,
    skips_empty: bool,
    random_key: str | None,
) -> Reading:
    if not parsed and random_key is not None:
        chosen = letters[random_index(random_key, len(letters))]
        chance = 0.0 if gold is None else 1 / len(letters)
        return Reading(chosen, float(chosen == gold), "random", expected=chance)
    if not answer and skips_empty:
        return Reading("", 0.0, "empty", counted=False)
    return _plain(answer, parsed, gold)


def _strict(answer: str, options: Sequence[str], gold: int | None) -> Reading:
    """Scores the strict letter; options with the gold option's text are right too."""
    parsed = strict_letter(answer, options)
    score = 0.0
    if parsed and gold is not None:
        named = options[ord(parsed) - ord("A")]
        score = float(parsed == letter_at(gold) or option_text(named) == option_text(options[gold]))
    return Reading(parsed, score, status_of(answer, parsed), expected=score)


def _plain(answer: str, parsed: str, gold: str | None) -> Reading:
    score = float(bool(parsed) and parsed == gold)
    return Reading(parsed, score, status_of(answer, parsed), expected=score)
