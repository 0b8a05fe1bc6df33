"""Count the operations of scoring, answering and following up, for growing videos."""

from __future__ import annotations

import argparse
import dataclasses

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import ModelConfig, SelectionConfig
from xcomp_jax.flops import encoder_flops, prefill_flops, reading_flops, scoring_flops
from xcomp_jax.selection.plan import frames_to_select, plan_scoring
from xcomp_jax.selection.windows import plan_windows
from xcomp_jax.variants import XCOMP_2B

PREFIX_ROWS = 14
"""Text tokens before the video: system turn and start of the user turn."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """FLOP of the parts of an answer.

    Attributes:
        encode: encoding every clip that scoring needs, once.
        windows: prefill of all windows with the question, as the original does before scoring.
        first: scoring one question, with the prefill of the windows.
        second: scoring another question about the same windows.
        answer: prefill of the selected frames and the question.
        follow_up: one more turn of the conversation.
    """

    encode: int
    windows: int
    first: int
    second: int
    answer: int
    follow_up: int


def count(
    model: ModelConfig, config: SelectionConfig, *, num_frames: int, rows: int, turn_rows: int
) -> Costs:
    """Counts a question of `rows` tokens about `num_frames` frames, sampled at 1 frame/s."""
    per_frame = model.projector.tokens_per_frame
    groups = plan_layer_groups(
        model.compression,
        num_layers=model.llm.num_hidden_layers,
        tokens_per_frame=per_frame,
    )
    windows = plan_windows(config, num_frames)
    visual, before, number = windows.length * per_frame, PREFIX_ROWS, len(windows.starts)
    plan = plan_scoring(
        groups,
        config,
        visual_tokens=visual,
        tokens_per_frame=per_frame,
        prefix_length=before,
    )
    scored = [group.layers for group in plan.groups]
    clip = model.vision.clip_frames
    clips = {start for w in range(number) for start in windows.clip_starts(w, clip)}
    reading = reading_flops(model, scored, before=before, visual=visual, rows=rows)
    question = reading + scoring_flops(model, plan, rows=rows)
    select = frames_to_select(config, num_frames=num_frames, duration=num_frames) or num_frames
    kept = select * per_frame
    return Costs(
        encode=len(clips) * encoder_flops(model),
        windows=number * prefill_flops(model, groups, text=before + rows, visual=visual),
        first=number * (prefill_flops(model, scored, text=before, visual=visual) + question),
        second=number * question,
        answer=prefill_flops(model, groups, text=before, visual=kept)
        + reading_flops(model, groups, before=before, visual=kept, rows=rows),
        follow_up=reading_flops(model, groups, before=before + rows, visual=kept, rows=turn_rows),
    )


def run(options: argparse.Namespace) -> int:
    """Prints a Markdown table in TFLOP."""
    config = SelectionConfig(repeats=options.repeats or SelectionConfig.repeats)
    print(
        "| frames | encoding | windows, plain prefill | scoring, first question | / plain prefill "
        "| scoring, next question | / first | answer from selected frames | follow-up turn |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for num_frames in options.frames:
        costs = count(
            XCOMP_2B,
            config,
            num_frames=num_frames,
            rows=options.question_rows,
            turn_rows=options.turn_rows,
        )
        cells = [
            f"{num_frames:,}",
            f"{costs.encode / 1e12:,.0f}",
            f"{costs.windows / 1e12:,.1f}",
            f"{costs.first / 1e12:,.1f}",
            f"{costs.first / costs.windows:.3f}",
            f"{costs.second / 1e12:,.2f}",
            f"{costs.second / costs.first:.2%}",
            f"{costs.answer / 1e12:,.1f}",
            f"{costs.follow_up / 1e12:,.3f}",
        ]
        print(f"| {' | '.join(cells)} |")
    return 0
