"""Writes the report of a run: plot.png, report.md and summary.json."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcomp_jax.compression.schedule import plan_layer_groups, tokens_per_frame_by_layer
from xcomp_jax.config import ExperimentConfig
from xcomp_jax.files import write_bytes, write_json, write_text
from xcomp_jax.training.evaluate import Evaluation


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Evaluations on held-out videos.

    uncompressed: the base model, without compression. before: the base model with compression
    switched on. after: the model tuned with compression. chance: accuracy of the most frequent
    answer to each question, which needs no video.
    """

    uncompressed: Evaluation
    before: Evaluation
    after: Evaluation
    chance: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Results of a run.

    accuracy: None without held-out questions. seconds: wall time over all restarts.
    benchmarks: lines of benchmarks.jsonl.
    """

    accuracy: Accuracy | None
    seconds: float
    benchmarks: Sequence[Mapping[str, Any]] = ()


def token_counts(config: ExperimentConfig) -> tuple[float, ...]:
    """Returns the tokens per frame that enter each decoder layer in the last stage."""
    model = config.stage_model(config.stages[-1])
    tokens = model.projector.tokens_per_frame
    layer_groups = plan_layer_groups(
        model.compression, num_layers=model.llm.num_hidden_layers, tokens_per_frame=tokens
    )
    return tokens_per_frame_by_layer(layer_groups, tokens)


def summary(config: ExperimentConfig, outcome: Outcome) -> dict[str, Any]:
    """Returns the content of summary.json."""
    counts, accuracy = token_counts(config), outcome.accuracy
    accuracies = {}
    if accuracy is not None:
        accuracies = {
            "accuracy_before": accuracy.before.accuracy,
            "accuracy_after": accuracy.after.accuracy,
            "accuracy_uncompressed_base": accuracy.uncompressed.accuracy,
            "chance": accuracy.chance,
            "questions": accuracy.after.asked,
        }
    return {
        **accuracies,
        **({"benchmarks": final} if (final := _final_scores(config, outcome)) else {}),
        "tokens_per_frame_last_layer": counts[-1],
        "tokens_per_frame_by_layer": list(counts),
        "seconds": round(outcome.seconds, 1),
    }


def _final_scores(config: ExperimentConfig, outcome: Outcome) -> dict[str, float]:
    """Returns the scores of the final parameters by benchmark."""
    last = config.stages[-1]
    return {
        line["benchmark"]: line["score"]
        for line in outcome.benchmarks
        if (line["stage"], line["step"]) == (last.name, last.num_steps)
    }


def write_report(
    config: ExperimentConfig,
    outcome: Outcome,
    metrics: list[dict[str, Any]],
    workdir: Path,
    *,
    example: str | None = None,
) -> None:
    """Writes plot.png, report.md and, last, summary.json, which marks the run as finished.

    Args:
        example: a command that tries the model, for report.md.
    """
    _plot(config, outcome, metrics, workdir / "plot.png")
    write_text(workdir / "report.md", _markdown(config, outcome, example))
    write_json(workdir / "summary.json", summary(config, outcome))


def _markdown(config: ExperimentConfig, outcome: Outcome, example: str | None) -> str:
    counts = token_counts(config)
    lines = [
        f"# {config.name}",
        "",
        f"Wall time: {outcome.seconds:.0f} s. Tokens per frame in each decoder layer: "
        + " ".join(str(count) for count in counts)
        + ".",
        "",
    ]
    if outcome.accuracy is None:
        lines += ["Without held-out questions (data.held_out), nothing was evaluated.", ""]
    else:
        lines += [*_accuracy_lines(outcome.accuracy), ""]
    if outcome.benchmarks:
        lines += [*_benchmark_lines(outcome.benchmarks), ""]
    lines += ["![loss and accuracy](plot.png)", ""]
    if example is not None:
        lines += ["Try the tuned model on a held-out video:", "", f"    {example}", ""]
    return "\n".join(lines)


def _accuracy_lines(accuracy: Accuracy) -> list[str]:
    columns = (accuracy.uncompressed, accuracy.before, accuracy.after)
    lines = [
        f"Accuracy on {accuracy.after.asked} questions about held-out videos. Without the video, "
        f"the most frequent answer to each question reaches {accuracy.chance:.1%}.",
        "",
        "| question type | base, no compression | base, compression on | tuned with compression |",
        "|---|---|---|---|",
    ]
    for kind in sorted(accuracy.after.by_kind):
        cells = [f"{right / asked:.1%}" for right, asked in (e.by_kind[kind] for e in columns)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    cells = [f"**{evaluation.accuracy:.1%}**" for evaluation in columns]
    return [*lines, f"| all | {' | '.join(cells)} |"]


def _benchmark_lines(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Benchmarks, with the 95 % interval by bootstrap over videos. Rows and reports are in "
        "`benchmarks/`.",
        "",
        "| benchmark | stage | step | score | questions |",
        "|---|---|---|---|---|",
    ]
    for line in sorted(scores, key=lambda line: line["benchmark"]):
        interval = f"{line['low']:.1%} to {line['high']:.1%}"
        lines.append(
            f"| {line['benchmark']} | {line['stage']} | {line['step']:,} | {line['score']:.1%} "
            f"({interval}) | {line['questions']:,} |"
        )
    return lines


def _plot(
    config: ExperimentConfig, outcome: Outcome, metrics: list[dict[str, Any]], path: Path
) -> None:
    """Draws the loss, and beside it benchmarks by step and held-out accuracy, if there are any."""
    accuracy, scores = outcome.accuracy, outcome.benchmarks
    count = 1 + bool(accuracy) + bool(scores)
    figure = Figure(figsize=(5 * count, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, *others = figure.subplots(1, count, squeeze=False)[0]
    first = 0
    for stage, group in itertools.groupby(metrics, key=lambda line: line["stage"]):
        lines = list(group)
        loss.plot(
            [first + line["step"] for line in lines], [line["loss"] for line in lines], label=stage
        )
        first += len(lines)
    loss.set(xlabel="optimizer step", ylabel="loss", yscale="log", title="training loss")
    loss.legend()
    if scores:
        _curves(config, scores, others.pop(0))
    if accuracy is not None:
        _bars(accuracy, others[0])
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    write_bytes(path, png.getvalue())


def _curves(config: ExperimentConfig, scores: Sequence[Mapping[str, Any]], axes: Axes) -> None:
    """Draws the score of each benchmark by optimizer step of the run, with its interval."""
    sizes = [stage.num_steps for stage in config.stages]
    starts = dict(
        zip(
            (stage.name for stage in config.stages),
            itertools.accumulate(sizes, initial=0),
            strict=False,
        )
    )
    for name in sorted({line["benchmark"] for line in scores}):
        lines = [line for line in scores if line["benchmark"] == name]
        steps = [starts[line["stage"]] + line["step"] for line in lines]
        bounds = [
            [100 * (line["score"] - line["low"]) for line in lines],
            [100 * (line["high"] - line["score"]) for line in lines],
        ]
        values = [100 * line["score"] for line in lines]
        axes.errorbar(steps, values, yerr=bounds, marker="o", capsize=3, label=name)
    axes.set(xlabel="optimizer step", ylabel="score (%)", ylim=(0, 108), title="benchmarks")
    axes.legend()


def _bars(accuracy: Accuracy, axes: Axes) -> None:
    bars = {
        "base,\nno compression": accuracy.uncompressed,
        "base,\ncompression on": accuracy.before,
        "tuned with\ncompression": accuracy.after,
    }
    drawn = axes.bar(list(bars), [100 * e.accuracy for e in bars.values()], color="tab:blue")
    axes.bar_label(drawn, fmt="%.1f")
    axes.axhline(100 * accuracy.chance, color="tab:red", linestyle="--", label="question only")
    axes.set(ylabel="accuracy (%)", ylim=(0, 108), title="held-out videos")
    axes.legend()
