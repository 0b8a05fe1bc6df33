"""Summarizes the runs of a table: means, intervals, and verdicts on the paper's claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from xcomp_jax.evaluation.statistics import bootstrap_interval
from xcomp_jax.launch.bench.paper.cells import CellResult
from xcomp_jax.launch.bench.paper.layouts import Claim, Table, TableRow
from xcomp_jax.launch.studies.schedules.claims import Interval, interval

SEEDS_FOR_INTERVAL = 3
"""Fewer seeds give no useful interval over seeds; then the videos are resampled instead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """Results of one benchmark by `TableRow.cell`, one per seed; rows that did not run are absent.

    name: benchmark, the key of `TableRow.published`. chance: share that the best answers without a
    video would reach; None if unknown.
    """

    name: str
    title: str
    results: Mapping[str, Sequence[CellResult]]
    chance: float | None = None


def row_interval(results: Sequence[CellResult]) -> Interval:
    """Returns the mean over seeds and its 95 % interval."""
    return _interval([np.asarray(result.scores) for result in results], results)


def claim_interval(
    claim: Claim, table: Table, results: Mapping[str, Sequence[CellResult]]
) -> Interval | None:
    """Returns the interval of the difference, paired by question; None if a row did not run."""
    cells = {row.title: row.cell for row in table.rows}
    better, worse = results.get(cells[claim.better]), results.get(cells[claim.worse])
    if not better or not worse or len(better) != len(worse):
        return None
    differences = [
        np.asarray(a.scores) - np.asarray(b.scores) for a, b in zip(better, worse, strict=True)
    ]
    return _interval(differences, better)


def found_share(results: Sequence[CellResult]) -> float | None:
    """Returns the share of questions whose annotated span has a frame in the input."""
    shares = [result.found for result in results if result.found is not None]
    return float(np.mean(shares)) if shares else None


def questions_of(results: Sequence[CellResult]) -> int:
    return sum(len(result.scores) for result in results)


def rows_with_results(table: Table, columns: Sequence[Column]) -> list[TableRow]:
    """Returns the rows that ran in some column."""
    return [row for row in table.rows if any(column.results.get(row.cell) for column in columns)]


def _interval(values: Sequence[np.ndarray], results: Sequence[CellResult]) -> Interval:
    if len(values) >= SEEDS_FOR_INTERVAL:
        return interval([float(value.mean()) for value in values])
    clusters = [f"{seed} {video}" for seed, r in enumerate(results) for video in r.videos]
    pooled = np.concatenate(values)
    numbers = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    bounds = bootstrap_interval(pooled, [numbers[name] for name in clusters])
    return Interval(float(pooled.mean()), bounds.low, bounds.high)
