"""Sets the scores of a run beside the published ones of its protocol."""

from __future__ import annotations

import dataclasses
import math

from xcomp_jax.config import ProtocolConfig, PublishedScore
from xcomp_jax.evaluation.summary import ModeSummary, Summary


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """A published score and ours of the same questions, as shares.

    Attributes:
        published_error: standard error of independent questions; None if unknown, as that of a
            macro average is.
        ours: None if the run has no such group, or only a part of the questions.
        error: standard error of ours; see `GroupScore` and `ModeSummary`.
        distance: difference in standard errors of the difference; None without both errors.
    """

    score: PublishedScore
    published_error: float | None
    ours: float | None
    error: float | None
    distance: float | None


def beside_published(summary: Summary, protocol: ProtocolConfig) -> list[PublishedRow]:
    """Returns a row per published score, in the protocol's headline mode."""
    mode = summary.modes[protocol.headline]
    return [_row(score, mode, protocol.subset) for score in protocol.published]


def _row(score: PublishedScore, mode: ModeSummary, subset: str) -> PublishedRow:
    ours, error = _ours(score, mode, subset)
    published_error = None
    if score.questions and score.metric == "micro":
        share = score.percent / 100
        published_error = math.sqrt(share * (1 - share) / score.questions)
    distance = None
    if ours is not None and error is not None and published_error is not None:
        combined = math.hypot(error, published_error)
        distance = (ours - score.percent / 100) / combined if combined else None
    return PublishedRow(score, published_error, ours, error, distance)


def _ours(
    score: PublishedScore, mode: ModeSummary, subset: str
) -> tuple[float | None, float | None]:
    """Returns (mean, standard error) of the questions that a published score covers."""
    if subset not in ("", score.group):
        return None, None
    if score.group:
        kind, _, value = score.group.partition("=")
        group = mode.groups.get(kind, {}).get(value)
        return (None, None) if group is None else (group.mean, group.error)
    if score.metric == "macro":
        return mode.macro, mode.macro_error
    return mode.estimate.mean, mode.estimate.clustered_error
