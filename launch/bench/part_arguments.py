"""Defines the benches of one part of the work in this process: encoder, selection, decoding."""

from __future__ import annotations

import argparse

from xcomp_jax.launch.bench.flags import (
    COUNT,
    add_bench,
    add_count,
    add_counts,
    add_video_file,
)


def add_encoder_cpu(commands: argparse._SubParsersAction) -> None:
    """Adds `encoder-cpu`."""
    parser = add_bench(
        commands,
        "encoder-cpu",
        "time the encoder's block and token merging on this CPU, beside PyTorch",
        "Times one clip of the 2B model in float32. With --peer, PyTorch runs the same in turns, "
        "in an interpreter of its own, so that none has to be installed here.",
        "  xcomp bench encoder-cpu --peer /path/to/venv-with-torch/bin/python",
    )
    parser.add_argument("--peer", metavar="PYTHON", help="Python interpreter that has PyTorch")
    add_count(parser, "--rounds", "runs of each; the least CPU time counts", 3)


def add_selection_speed(commands: argparse._SubParsersAction) -> None:
    """Adds `selection-speed`."""
    parser = add_bench(
        commands,
        "selection-speed",
        "time frame selection against its definition",
        "Times question-conditioned selection against its slow definition, with the demo model "
        "on generated frames. Both are compiled before they are timed and must select the same "
        "frames; the shortest of three runs counts. The definition repeats its work for every "
        "question, so it is timed with one question and multiplied.",
        "  xcomp bench selection-speed\n  xcomp bench selection-speed --frames 1024 --questions 1",
    )
    add_counts(parser, "--frames", "numbers of frames", [1024, 2048])
    add_counts(parser, "--questions", "numbers of questions", [1, 10])
    _add_repeats(parser)


def add_selection_costs(commands: argparse._SubParsersAction) -> None:
    """Adds `selection-costs`."""
    parser = add_bench(
        commands,
        "selection-costs",
        "count the operations of a question, in TFLOP",
        "Counts the operations of scoring, answering and following up with the 2B model, from "
        "shapes alone (xcomp_jax.flops).",
        "  xcomp bench selection-costs\n"
        "  xcomp bench selection-costs --question-rows 863 --repeats 8",
    )
    add_counts(parser, "--frames", "numbers of frames", [1024, 2048, 4096, 8192])
    add_count(parser, "--question-rows", "tokens of a question", 100)
    add_count(parser, "--turn-rows", "tokens of a follow-up turn", 40)
    _add_repeats(parser)


def _add_repeats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", type=COUNT, metavar="R", help="scoring rounds (default: 2, as published)"
    )


def add_pipeline(commands: argparse._SubParsersAction) -> None:
    """Adds `pipeline`."""
    parser = add_bench(
        commands,
        "pipeline",
        "compare encoding a video with decoding alone and encoding alone",
        "Encodes a generated video with the demo model, and times its decoding and its encoding "
        "alone in the same run. The encoder's depth is chosen so that both take about as long.",
        "  xcomp bench pipeline --frames 2048",
    )
    add_count(parser, "--frames", "sampled frames", 1024)
    add_count(parser, "--seconds", "length of the video", 60)
    add_count(parser, "--rounds", "runs of each; the shortest counts", 3)


def add_frame_rates(commands: argparse._SubParsersAction) -> None:
    """Adds `frame-rates`."""
    parser = add_bench(
        commands,
        "frame-rates",
        "measure the host's cost of a frame, and compute rates for other numbers of cores",
        "Measures the CPU time per frame of decoding, reading and resizing, and computes from it "
        "the frames per second that other numbers of cores decode and resize from one file.",
        "  xcomp bench frame-rates              # generated videos of 720p and 1080p\n"
        "  xcomp bench frame-rates film.mp4 --cores 16 64",
    )
    add_video_file(parser)
    add_count(parser, "--frames", "frames to read", 64)
    add_counts(parser, "--cores", "numbers of cores", [1, 2, 4, 16])
