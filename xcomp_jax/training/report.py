"""What a run leaves for people: a plot, a page of Markdown, a JSON summary."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcomp_jax.compression.schedule import plan_stages, tokens_per_frame_by_layer
from xcomp_jax.config import ExperimentConfig
from xcomp_jax.files import write_json, write_text
from xcomp_jax.training.evaluate import Evaluation


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Accuracy on unseen videos: of the base as it was trained, of the base with compression merely
    switched on, and after tuning with compression. `seconds` is wall time over all restarts."""

    uncompressed: Evaluation
    before: Evaluation
    after: Evaluation
    chance: float
    seconds: float


def token_counts(config: ExperimentConfig) -> tuple[float, ...]:
    """Tokens per frame that each decoder layer sees in the last stage."""
    model = config.stage_model(config.stages[-1])
    tokens = model.projector.tokens_per_frame
    stages = plan_stages(
        model.compression, num_layers=model.llm.num_hidden_layers, tokens_per_frame=tokens
    )
    return tokens_per_frame_by_layer(stages, tokens)


def summary(config: ExperimentConfig, outcome: Outcome) -> dict[str, Any]:
    """The content of summary.json."""
    counts = token_counts(config)
    return {
        "accuracy_before": outcome.before.accuracy,
        "accuracy_after": outcome.after.accuracy,
        "accuracy_uncompressed_base": outcome.uncompressed.accuracy,
        "chance": outcome.chance,
        "tokens_per_frame_last_layer": counts[-1],
        "tokens_per_frame_by_layer": list(counts),
        "questions": outcome.after.asked,
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
    _plot(outcome, metrics, workdir / "plot.png")
    write_text(workdir / "report.md", _markdown(config, outcome, example))
    write_json(workdir / "summary.json", summary(config, outcome))


def _markdown(config: ExperimentConfig, outcome: Outcome, example: str | None) -> str:
    counts = token_counts(config)
    columns = (outcome.uncompressed, outcome.before, outcome.after)
    lines = [
        f"# {config.name}",
        "",
        f"{outcome.after.asked} questions about unseen videos. The best answer from the question "
        f"alone is right in {outcome.chance:.1%}. Wall time {outcome.seconds:.0f} s.",
        "",
        "Tokens per frame, by decoder layer: " + " ".join(str(count) for count in counts) + ".",
        "",
        "| question | base, no compression | base, compression on | tuned with compression |",
        "|---|---|---|---|",
    ]
    for kind in sorted(outcome.after.by_kind):
        cells = [f"{right / asked:.1%}" for right, asked in (e.by_kind[kind] for e in columns)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    cells = [f"**{evaluation.accuracy:.1%}**" for evaluation in columns]
    lines += [f"| all | {' | '.join(cells)} |", "", "![loss and accuracy](plot.png)", ""]
    if example is not None:
        lines += ["Ask the tuned model about a video it never saw:", "", f"    {example}", ""]
    return "\n".join(lines)


def _plot(outcome: Outcome, metrics: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    done = 0
    for stage, group in itertools.groupby(metrics, key=lambda line: line["stage"]):
        lines = list(group)
        loss.plot(
            [done + line["step"] for line in lines], [line["loss"] for line in lines], label=stage
        )
        done += len(lines)
    loss.set(xlabel="optimiser step", ylabel="loss", yscale="log", title="training loss")
    loss.legend()
    bars = {
        "base,\nno compression": outcome.uncompressed,
        "base,\ncompression on": outcome.before,
        "tuned with\ncompression": outcome.after,
    }
    drawn = accuracy.bar(list(bars), [100 * e.accuracy for e in bars.values()], color="tab:blue")
    accuracy.bar_label(drawn, fmt="%.1f")
    accuracy.axhline(100 * outcome.chance, color="tab:red", linestyle="--", label="text alone")
    accuracy.set(ylabel="% right", ylim=(0, 108), title="unseen videos")
    accuracy.legend()
    figure.savefig(path, dpi=120)
