"""Write the comparison as a Markdown report with verdicts, a plot and a JSON summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcomp_jax.config import ModelConfig
from xcomp_jax.files import write_json, write_text
from xcomp_jax.launch.studies.schedules.claims import CLAIMS, Claim, Interval, interval, paired
from xcomp_jax.launch.studies.schedules.conditions import (
    CONDITIONS,
    Condition,
    common_mean,
    tokens_by_layer,
)
from xcomp_jax.launch.studies.schedules.run import Result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Results of all conditions.

    Attributes:
        results: by name of the condition, in the order of `seeds`.
        seconds: wall time over all restarts.
    """

    model: ModelConfig
    seeds: tuple[int, ...]
    results: Mapping[str, Sequence[Result]]
    seconds: float

    @property
    def accuracy(self) -> dict[str, list[float]]:
        """Accuracy by condition and seed."""
        return {
            name: [result.evaluation.accuracy for result in results]
            for name, results in self.results.items()
        }

    @property
    def questions(self) -> int:
        """Number of questions per condition, over all seeds."""
        return sum(result.evaluation.asked for result in self.results["base"])

    @property
    def chance(self) -> float:
        """Accuracy from the question alone, averaged over the seeds."""
        return sum(result.chance for result in self.results["base"]) / len(self.seeds)


def write_report(comparison: Comparison, folder: Path) -> None:
    """Writes plot.png, report.md and summary.json.

    Raises:
        ValueError: there are fewer than two seeds.
    """
    write_json(folder / "summary.json", summary(comparison))
    _plot(comparison, folder / "plot.png")
    write_text(folder / "report.md", markdown(comparison))


def summary(comparison: Comparison) -> dict[str, Any]:
    """Returns the content of summary.json; accuracies are shares, intervals are of 95 %."""
    accuracy = comparison.accuracy
    return {
        "seeds": list(comparison.seeds),
        "questions": comparison.questions,
        "chance": comparison.chance,
        "mean_tokens_per_frame": common_mean(comparison.model, CONDITIONS),
        "seconds": round(comparison.seconds, 1),
        "conditions": {
            condition.name: {
                **dataclasses.asdict(interval(accuracy[condition.name])),
                "by_seed": accuracy[condition.name],
                "tokens_by_layer": tokens_by_layer(comparison.model, condition.compression),
            }
            for condition in CONDITIONS
        },
        "claims": [
            {
                **dataclasses.asdict(claim),
                **dataclasses.asdict(paired(claim, accuracy)),
                "verdict": paired(claim, accuracy).verdict,
            }
            for claim in CLAIMS
        ],
    }


def markdown(comparison: Comparison) -> str:
    """Returns the content of report.md."""
    model, seeds = comparison.model, comparison.seeds
    kinds = sorted(comparison.results["base"][0].evaluation.by_kind)
    lines = [
        "# Comparison of compression schedules on the generated task",
        "",
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}), {comparison.questions:,} questions; "
        f"{comparison.chance:.1%} can be answered from the question alone. "
        f"{model.llm.num_hidden_layers} layers, {model.projector.tokens_per_frame} tokens per "
        "frame; each compressed row has "
        f"{common_mean(model, CONDITIONS):g} on average over the layers and 1 in the last. "
        f"± is half of the 95 % interval over the seeds. Wall time {comparison.seconds / 60:.0f} "
        "minutes.",
        "",
        "The last column is the paper's LVBench result at 1,024 frames. Task and model size are "
        "different, so only the order is comparable.",
        "",
        f"| condition | tokens per frame by layer | {' | '.join(kinds)} | all | paper |",
        "|" + "---|" * (len(kinds) + 4),
        *(_row(condition, comparison, kinds) for condition in CONDITIONS),
        "",
        "| claim | difference in points, by seed | mean and 95 % interval | verdict |",
        "|---|---|---|---|",
        *(_claim(claim, comparison.accuracy) for claim in CLAIMS),
        "",
        "A claim holds if its whole interval is above zero, does not hold if it is below, and is "
        "undecided otherwise. Intervals are not corrected for the number of claims. Learned rows "
        "were also trained longer than training-free ones; the two rows without compression show "
        "the effect of longer training alone.",
        "",
        "![accuracy](plot.png)",
        "",
    ]
    return "\n".join(lines)


def _row(condition: Condition, comparison: Comparison, kinds: Sequence[str]) -> str:
    counts = tokens_by_layer(comparison.model, condition.compression)
    cells = [condition.title, " ".join(f"{count:g}" for count in counts)]
    for kind in kinds:
        pairs = [r.evaluation.by_kind[kind] for r in comparison.results[condition.name]]
        cells.append(f"{sum(right for right, _ in pairs) / sum(total for _, total in pairs):.1%}")
    over_seeds = interval(comparison.accuracy[condition.name])
    cells.append(f"**{over_seeds.mean:.1%}** ± {100 * (over_seeds.high - over_seeds.mean):.1f}")
    cells.append("" if condition.paper is None else f"{condition.paper:.1f}")
    return f"| {' | '.join(cells)} |"


def _claim(claim: Claim, accuracy: Mapping[str, Sequence[float]]) -> str:
    titles = {condition.name: condition.title for condition in CONDITIONS}
    differences = " ".join(
        f"{100 * (better - worse):+.1f}"
        for better, worse in zip(accuracy[claim.better], accuracy[claim.worse], strict=True)
    )
    result = paired(claim, accuracy)
    return (
        f"| {titles[claim.better]} > {titles[claim.worse]} | {differences} | {_points(result)} "
        f"| **{result.verdict}** |"
    )


def _points(result: Interval) -> str:
    mean, low, high = (100 * value for value in dataclasses.astuple(result))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _plot(comparison: Comparison, path: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, condition in enumerate(reversed(CONDITIONS)):
        values = [100 * value for value in comparison.accuracy[condition.name]]
        over_seeds = interval(values)
        color = "tab:blue" if condition.learned else "tab:gray"
        axes.barh(place, over_seeds.mean, color=color, alpha=0.6)
        half = over_seeds.high - over_seeds.mean
        axes.errorbar(over_seeds.mean, place, xerr=half, color="black", capsize=3)
        axes.plot(values, [place] * len(values), ".", color="black", markersize=4)
    axes.set_yticks(range(len(CONDITIONS)), [c.title for c in reversed(CONDITIONS)])
    axes.axvline(100 * comparison.chance, color="tab:red", linestyle="--")
    axes.set(
        xlabel="% correct on unseen videos; bars: 95 % intervals, points: seeds, dashed: question "
        "alone",
        xlim=(0, 100),
        title=f"{common_mean(comparison.model, CONDITIONS):g} tokens per frame on average, 1 in "
        "the last layer",
    )
    figure.savefig(path, dpi=120)
