"""What a run leaves for people: a plot, a page of Markdown, a JSON summary."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcomp_jax.compression.schedule import plan_layer_groups, tokens_per_frame_by_layer
from xcomp_jax.config import ExperimentConfig
from xcomp_jax.files import write_json, write_text
from xcomp_jax.training.evaluate import Evaluation


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """On unseen videos: of the base as it was trained, of the base with compression merely switched
    on, and after tuning with compression; `chance` from the question alone."""

    uncompressed: Evaluation
    before: Evaluation
    after: Evaluation
    chance: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to. `seconds` is wall time over all restarts.

    accuracy: None where no questions were held out.
    """

    accuracy: Accuracy | None
    seconds: float


def token_counts(config: ExperimentConfig) -> tuple[float, ...]:
    """Tokens per frame that each decoder layer sees in the last stage."""
    model = config.stage_model(config.stages[-1])
    tokens = model.projector.tokens_per_frame
    stages = plan_layer_groups(
        model.compression, num_layers=model.llm.num_hidden_layers, tokens_per_frame=tokens
    )
    return tokens_per_frame_by_layer(stages, tokens)


def summary(config: ExperimentConfig, outcome: Outcome) -> dict[str, Any]:
    """The content of summary.json."""
    counts, accuracy = token_counts(config), outcome.accuracy
    answered = {}
    if accuracy is not None:
        answered = {
            "accuracy_before": accuracy.before.accuracy,
            "accuracy_after": accuracy.after.accuracy,
            "accuracy_uncompressed_base": accuracy.uncompressed.accuracy,
            "chance": accuracy.chance,
            "questions": accuracy.after.asked,
        }
    return {
        **answered,
        "tokens_per_frame_last_layer": counts[-1],
        "tokens_per_frame_by_layer": list(counts),
        "seconds": round(outcome.seconds, 1),
    }


def write_report(
    config: ExperimentConfig,
    outcome: Outcome,
    metrics: list[dict[str, Any]],
    workdir: Path,
    *,
    example: str | None = None,
) -> None:
    """Writes plot.png, report.md and, last, summary.json: its presence means the run is done.

    `example` is a command to try next.
    """
    _plot(outcome.accuracy, metrics, workdir / "plot.png")
    write_text(workdir / "report.md", _markdown(config, outcome, example))
    write_json(workdir / "summary.json", summary(config, outcome))


def _markdown(config: ExperimentConfig, outcome: Outcome, example: str | None) -> str:
    counts = token_counts(config)
    lines = [
        f"# {config.name}",
        "",
        f"Wall time {outcome.seconds:.0f} s. Tokens per frame, by decoder layer: "
        + " ".join(str(count) for count in counts)
        + ".",
        "",
    ]
    if outcome.accuracy is None:
        lines += ["No questions were held out (data.held_out): nothing was evaluated.", ""]
    else:
        lines += [*_accuracy_lines(outcome.accuracy), ""]
    lines += ["![loss and accuracy](plot.png)", ""]
    if example is not None:
        lines += ["Ask the tuned model about a video it never saw:", "", f"    {example}", ""]
    return "\n".join(lines)


def _accuracy_lines(accuracy: Accuracy) -> list[str]:
    columns = (accuracy.uncompressed, accuracy.before, accuracy.after)
    lines = [
        f"{accuracy.after.asked} questions about unseen videos. The best answer from the question "
        f"alone is right in {accuracy.chance:.1%}.",
        "",
        "| question | base, no compression | base, compression on | tuned with compression |",
        "|---|---|---|---|",
    ]
    for kind in sorted(accuracy.after.by_kind):
        cells = [f"{right / asked:.1%}" for right, asked in (e.by_kind[kind] for e in columns)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    cells = [f"**{evaluation.accuracy:.1%}**" for evaluation in columns]
    return [*lines, f"| all | {' | '.join(cells)} |"]


def _plot(accuracy: Accuracy | None, metrics: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(10 if accuracy else 5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, *others = figure.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
    done = 0
    for stage, group in itertools.groupby(metrics, key=lambda line: line["stage"]):
        lines = list(group)
        loss.plot(
            [done + line["step"] for line in lines], [line["loss"] for line in lines], label=stage
        )
        done += len(lines)
    loss.set(xlabel="optimiser step", ylabel="loss", yscale="log", title="training loss")
    loss.legend()
    if accuracy is not None:
        _bars(accuracy, others[0])
    figure.savefig(path, dpi=120)


def _bars(accuracy: Accuracy, axes: Axes) -> None:
    bars = {
        "base,\nno compression": accuracy.uncompressed,
        "base,\ncompression on": accuracy.before,
        "tuned with\ncompression": accuracy.after,
    }
    drawn = axes.bar(list(bars), [100 * e.accuracy for e in bars.values()], color="tab:blue")
    axes.bar_label(drawn, fmt="%.1f")
    axes.axhline(100 * accuracy.chance, color="tab:red", linestyle="--", label="text alone")
    axes.set(ylabel="% right", ylim=(0, 108), title="unseen videos")
    axes.legend()
