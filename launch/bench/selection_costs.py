"""What a question costs, counted: scoring, answering and following up, for growing videos.

    python -m launch.qc_costs                      # the 2B model, 1,024 to 8,192 frames
    python -m launch.qc_costs --question-rows 863 --repeats 8

Every figure is counted from shapes (`xcomp_jax.flops`), in TFLOP.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import ModelConfig, SelectionConfig
from xcomp_jax.flops import encoder_flops, prefill_flops, reading_flops, scoring_flops
from xcomp_jax.selection.plan import frames_to_select, plan_scoring, plan_windows
from xcomp_jax.variants import XCOMP_2B

PREFIX_ROWS = 14
"""Tokens before the video: the system turn and the beginning of the user's."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """FLOP of the parts of an answer.

    encode: every clip that scoring needs, once; windows: a plain pass over the windows with the
    question, what the original does before it scores; first, second: scoring one question when
    nothing and when everything about the video is known; answer: watching the chosen frames and
    reading the question; follow_up: a turn of `turn_rows` after that.
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
    """Counts one question of `rows` tokens about `num_frames` frames sampled once a second."""
    per_frame = model.projector.tokens_per_frame
    stages = plan_layer_groups(
        model.compression,
        num_layers=model.llm.num_hidden_layers,
        tokens_per_frame=per_frame,
    )
    windows = plan_windows(config, num_frames)
    visual, before, number = windows.length * per_frame, PREFIX_ROWS, len(windows.starts)
    plan = plan_scoring(stages, config, visual_tokens=visual, tokens_per_frame=per_frame)
    scored = [part.stage for part in plan.watched]
    clip = model.vision.clip_frames
    clips = {start for w in range(number) for start in windows.clip_starts(w, clip)}
    reading = reading_flops(model, scored, before=before, visual=visual, rows=rows)
    question = reading + scoring_flops(model, plan, before=before, rows=rows)
    select = frames_to_select(config, num_frames=num_frames, duration=num_frames) or num_frames
    kept = select * per_frame
    return Costs(
        encode=len(clips) * encoder_flops(model),
        windows=number * prefill_flops(model, stages, text=before + rows, visual=visual),
        first=number * (prefill_flops(model, scored, text=before, visual=visual) + question),
        second=number * question,
        answer=prefill_flops(model, stages, text=before, visual=kept)
        + reading_flops(model, stages, before=before, visual=kept, rows=rows),
        follow_up=reading_flops(model, stages, before=before + rows, visual=kept, rows=turn_rows),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[1024, 2048, 4096, 8192], metavar="N"
    )
    parser.add_argument("--question-rows", type=int, default=100, help="default: 100")
    parser.add_argument("--turn-rows", type=int, default=40, help="of a follow-up (default: 40)")
    parser.add_argument("--repeats", type=int, default=SelectionConfig.repeats)
    options = parser.parse_args(arguments)
    config = SelectionConfig(repeats=options.repeats)
    print(
        "| frames | encoding | windows, plain pass | scoring, first question | to plain pass "
        "| next question | to first | answer from the chosen | follow-up turn |"
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


if __name__ == "__main__":
    main()
