"""Defines the result of a run on one benchmark, as reports show it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from xcomp_jax.config import ProtocolConfig
from xcomp_jax.evaluation.beside_published import PublishedRow, beside_published
from xcomp_jax.evaluation.hardest import HardQuestion
from xcomp_jax.evaluation.question import Task
from xcomp_jax.evaluation.summary import ModeSummary, Summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Facts of a run that a reader needs to repeat it."""

    command: str
    checkpoint: str
    checkpoint_hash: str
    question_set: str
    version: str
    devices: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Result of a run on one benchmark.

    departures: settings that differ from the published protocol, as `protocol.departures` lists
    them.
    hardest: wrong answers with the frames chosen for them.
    figure: PNG of the scores of a needle benchmark; None for other benchmarks.
    """

    task: Task
    summary: Summary
    protocol: ProtocolConfig
    departures: Sequence[str]
    info: RunInfo
    hardest: Sequence[HardQuestion] = ()
    figure: bytes | None = None

    @property
    def headline(self) -> ModeSummary:
        return self.summary.modes[self.protocol.headline]

    @property
    def published(self) -> list[PublishedRow]:
        return beside_published(self.summary, self.protocol)
