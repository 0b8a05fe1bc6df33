"""Define the sub-commands of `xcomp bench` and their arguments."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from xcomp_jax.launch.bench.cycles import names as cycles
from xcomp_jax.launch.bench.paper.arguments import add_paper
from xcomp_jax.launch.bench.video_arguments import add_video
from xcomp_jax.terminal.values import real_number, whole_number

DESCRIPTION = """Measures speed, memory and cost on the device of this machine. kernels, gpu, blocks
and fit need only JAX, Flax, Optax, Orbax and jaxtyping; fit also needs the compiler of the devices
it compiles for (libtpu for TPUs, the CUDA plugin of JAX for GPUs)."""

EXAMPLES = """examples:
  xcomp bench kernels                  # attention and clip scores, one table
  xcomp bench gpu                      # encoder, prefill, kernels, answer, in 6 minutes
  xcomp bench gpu --tiny               # the same with a tiny model, on any machine
  xcomp bench blocks --write           # search block sizes, add them to the kernels' table
  xcomp bench fit v5e h200             # frames that fit a device, by compiling for it
  xcomp bench video film.mp4           # frames from a long file, against one pass
  xcomp bench cycles v5e               # a TPU compiler's own estimate of every operation
  xcomp bench selection-costs          # operations of question-conditioned selection
  xcomp bench paper --table 2 --out runs/paper   # a table of the paper, with tiny models
"""

RESULTS = Path("runs/bench")
MACHINES = ("v5e", "v5p", "v6e", "h100", "h200")

COUNT = whole_number(1, 1 << 20)
"""Type of a number of frames, steps, rounds or tokens."""


def add_benches(parser: argparse.ArgumentParser) -> None:
    """Adds every bench as a sub-command."""
    commands = parser.add_subparsers(dest="bench", required=True, metavar="NAME")
    _add_device_benches(commands)
    _add_fit(commands)
    _add_cycles(commands)
    _add_encoder_cpu(commands)
    _add_selection_benches(commands)
    _add_process_benches(commands)
    _add_pipeline(commands)
    _add_serve(commands)
    _add_frame_rates(commands)
    _add_convert_roundtrip(commands)
    add_video(commands)
    add_paper(commands)


def _add(
    commands: argparse._SubParsersAction, name: str, summary: str, description: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 79),
        epilog=f"examples:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_device_benches(commands: argparse._SubParsersAction) -> None:
    # The last part may start just before the limit and take a minute and a half more: `gpu` takes
    # at most six minutes.
    for name, summary, minutes in (
        ("kernels", "measure each implementation of attention and clip scores", 8),
        ("gpu", "measure encoder, prefill, kernels, and a file to an answer", 4.5),
        ("blocks", "search the fastest block sizes of the kernels", 60),
    ):
        parser = _add(commands, name, summary, f"{summary.capitalize()}.", f"  xcomp bench {name}")
        parser.add_argument(
            "--minutes",
            type=real_number(0),
            default=minutes,
            metavar="M",
            help="start no new measurement after M minutes (default: %(default)s)",
        )
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help=f"folder of the results (default: {RESULTS})"
        )
        parser.add_argument(
            "--tiny", action="store_true", help="tiny shapes; written only with --out"
        )
        if name == "blocks":
            parser.add_argument(
                "--write", action="store_true", help="add the sizes found to the kernels' table"
            )


def _add_pipeline(commands: argparse._SubParsersAction) -> None:
    parser = _add(
        commands,
        "pipeline",
        "compare encoding a video with decoding alone and encoding alone",
        "Encodes a generated video with the demo model, and times its decoding and its encoding "
        "alone in the same run. The encoder's depth is chosen so that both take about as long.",
        "  xcomp bench pipeline --frames 2048",
    )
    for name, default, text in (
        ("frames", 1024, "sampled frames"),
        ("seconds", 60, "length of the video"),
        ("rounds", 3, "runs of each; the shortest counts"),
    ):
        parser.add_argument(
            f"--{name}",
            type=COUNT,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )


def _add_serve(commands: argparse._SubParsersAction) -> None:
    parser = _add(
        commands,
        "serve",
        "measure a server with concurrent clients",
        "Starts `xcomp serve`, sends questions one by one and by concurrent clients, and compares "
        "throughput, answers and the time to the first token. With --soak, watches, asks and "
        "deletes for some minutes and compares memory and open files.",
        "  xcomp bench serve --checkpoint runs/smoke/checkpoint\n  xcomp bench serve --soak 30",
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="model to serve (default: the demo model)"
    )
    for name, default, text in (
        ("requests", 200, "questions of each phase"),
        ("clients", 16, "concurrent clients"),
        ("videos", 4, "videos that the questions are about"),
        ("max-tokens", 64, "most tokens per answer"),
    ):
        parser.add_argument(
            f"--{name}",
            type=COUNT,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )
    parser.add_argument(
        "--soak",
        type=real_number(0, 1 << 20, above=True),
        metavar="MINUTES",
        help="watch, ask and delete for this time instead",
    )


def _add_frame_rates(commands: argparse._SubParsersAction) -> None:
    parser = _add(
        commands,
        "frame-rates",
        "measure the host's cost of a frame, and compute rates for other numbers of cores",
        "Measures the CPU time per frame of decoding, reading and resizing, and computes from it "
        "the frames per second that other numbers of cores decode and resize from one file.",
        "  xcomp bench frame-rates              # generated videos of 720p and 1080p\n"
        "  xcomp bench frame-rates film.mp4 --cores 16 64",
    )
    parser.add_argument("video", type=Path, nargs="?", metavar="VIDEO", help="video file")
    parser.add_argument(
        "--frames",
        type=COUNT,
        default=64,
        metavar="N",
        help="frames to read (default: 64)",
    )
    _add_counts(parser, "--cores", "numbers of cores", [1, 2, 4, 16])


def _add_fit(commands: argparse._SubParsersAction) -> None:
    parser = _add(
        commands,
        "fit",
        "count the frames that fit a device, by compiling for it",
        "Compiles the prefill of the 2B model for devices that are not attached, at two numbers of "
        "frames, and extrapolates to the number that fills the memory.",
        "  xcomp bench fit v5e --frames 4096 12288",
    )
    parser.add_argument(
        "machines", nargs="+", choices=MACHINES, metavar="MACHINE", help=", ".join(MACHINES)
    )
    parser.add_argument(
        "--frames",
        nargs=2,
        type=COUNT,
        default=(1024, 4096),
        metavar="N",
        help="compiled numbers of frames (default: 1024 4096)",
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="compile every distinct number of tokens, not two (minutes for a TPU)",
    )


def _add_cycles(commands: argparse._SubParsersAction) -> None:
    parser = _add(
        commands,
        "cycles",
        "print a TPU compiler's estimates of the cycles of the model's parts",
        "Compiles parts of the 2B model for a TPU that is not attached, sums the compiler's "
        "estimate of the cycles of every operation, and compares it with the least that the matrix "
        "products need. These are estimates, not measurements; kernels have none. Takes minutes of "
        "processor time. With --check the exit code is 1 when a share of the peak falls.",
        "  xcomp bench cycles v5e\n"
        "  xcomp bench cycles v6e --programs encoder-block --operations 20\n"
        "  xcomp bench cycles v5p --check docs/cycles.md",
    )
    parser.add_argument(
        "machine", choices=cycles.MACHINES, metavar="MACHINE", help=", ".join(cycles.MACHINES)
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=cycles.PROGRAMS,
        metavar="NAME",
        help=f"programs to compile: {', '.join(cycles.PROGRAMS)} (default: all)",
    )
    parser.add_argument(
        "--operations",
        type=COUNT,
        metavar="N",
        help="also list the N operations of each program with the most cycles",
    )
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="compare with the tables stored in FILE"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="store the tables in FILE, in Markdown"
    )


def _add_encoder_cpu(commands: argparse._SubParsersAction) -> None:
    parser = _add(
        commands,
        "encoder-cpu",
        "time the encoder's block and token merging on this CPU, beside PyTorch",
        "Times one clip of the 2B model in float32. With --peer, PyTorch runs the same in turns, "
        "in an interpreter of its own, so that none has to be installed here.",
        "  xcomp bench encoder-cpu --peer /path/to/venv-with-torch/bin/python",
    )
    parser.add_argument("--peer", metavar="PYTHON", help="Python interpreter that has PyTorch")
    parser.add_argument(
        "--rounds",
        type=COUNT,
        default=3,
        metavar="N",
        help="runs of each; the least CPU time counts (default: 3)",
    )


def _add_selection_benches(commands: argparse._SubParsersAction) -> None:
    speed = _add(
        commands,
        "selection-speed",
        "time frame selection against its definition",
        "Times question-conditioned selection against its slow definition, with the demo model "
        "on generated frames. Both are compiled before they are timed and must select the same "
        "frames; the shortest of three runs counts. The definition repeats its work for every "
        "question, so it is timed with one question and multiplied.",
        "  xcomp bench selection-speed\n  xcomp bench selection-speed --frames 1024 --questions 1",
    )
    _add_counts(speed, "--frames", "numbers of frames", [1024, 2048])
    _add_counts(speed, "--questions", "numbers of questions", [1, 10])
    costs = _add(
        commands,
        "selection-costs",
        "count the operations of a question, in TFLOP",
        "Counts the operations of scoring, answering and following up with the 2B model, from "
        "shapes alone (xcomp_jax.flops).",
        "  xcomp bench selection-costs\n"
        "  xcomp bench selection-costs --question-rows 863 --repeats 8",
    )
    _add_counts(costs, "--frames", "numbers of frames", [1024, 2048, 4096, 8192])
    costs.add_argument(
        "--question-rows",
        type=COUNT,
        default=100,
        metavar="N",
        help="tokens of a question (default: 100)",
    )
    costs.add_argument(
        "--turn-rows",
        type=COUNT,
        default=40,
        metavar="N",
        help="tokens of a follow-up turn (default: 40)",
    )
    for parser in (speed, costs):
        parser.add_argument(
            "--repeats",
            type=COUNT,
            metavar="R",
            help="scoring rounds (default: 2, as published)",
        )


def _add_process_benches(commands: argparse._SubParsersAction) -> None:
    ask = _add(
        commands,
        "ask",
        "measure time and peak memory of `xcomp ask`",
        "Measures each `xcomp ask` as a process of its own that compiles everything. CPU time "
        "includes ffmpeg; peak memory is that of the Python process alone. With --against, another "
        "checkout of this repository answers the same question in turn.",
        "  xcomp bench ask                      # generated videos of 1 and 10 minutes\n"
        "  xcomp bench ask film.mp4 --checkpoint runs/smoke/checkpoint --against ../before",
    )
    ask.add_argument("video", type=Path, nargs="?", metavar="VIDEO", help="video file")
    ask.add_argument(
        "--frames",
        type=COUNT,
        default=1024,
        metavar="N",
        help="frames per video (default: 1024)",
    )
    ask.add_argument("--checkpoint", metavar="DIR", help="model to ask (default: the demo model)")
    ask.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare")
    ask.add_argument(
        "--rounds",
        type=COUNT,
        default=1,
        metavar="N",
        help="runs of each; the shortest counts (default: 1)",
    )
    overhead = _add(
        commands,
        "training-overhead",
        "measure the host's share of a training step",
        "Tunes the smoke model on generated videos, once from the files and once from stored "
        "merged features, and reports the time spent waiting for data and outside compiled code. "
        "The first 10 steps compile and do not count; the last 20 run under JAX's profiler. Also "
        "measures decoding and feature reading in processor time, and derives the host cores that "
        "a v5p-64 needs. Runs on a CPU, some minutes on two cores.",
        "  xcomp bench training-overhead\n"
        "  xcomp bench training-overhead --steps 40 --folder /tmp/overhead",
    )
    overhead.add_argument(
        "--steps",
        type=COUNT,
        default=80,
        metavar="N",
        help="steps per loop (default: 80)",
    )
    overhead.add_argument(
        "--videos",
        type=COUNT,
        default=64,
        metavar="N",
        help="videos to generate (default: 64)",
    )
    overhead.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep files in DIR (default: a temporary folder)"
    )


def _add_convert_roundtrip(commands: argparse._SubParsersAction) -> None:
    roundtrip = _add(
        commands,
        "convert-roundtrip",
        "measure time and memory of converting a full-size checkpoint",
        "Writes a random checkpoint in the original's layout, converts it to ours and back twice, "
        "and compares all tensors bit by bit. Needs four times the size of the weights on disk.",
        "  xcomp bench convert-roundtrip --folder /large/disk",
    )
    roundtrip.add_argument(
        "--folder", type=Path, required=True, metavar="DIR", help="folder for temporary files"
    )
    roundtrip.add_argument(
        "--variant", metavar="NAME", help="published model (default: the 2B; see convert variants)"
    )
    roundtrip.add_argument("--dtype", metavar="DTYPE", help="stored dtype (default: bfloat16)")


def _add_counts(parser: argparse.ArgumentParser, flag: str, noun: str, default: list[int]) -> None:
    shown = " ".join(map(str, default))
    parser.add_argument(
        flag,
        type=COUNT,
        nargs="+",
        default=default,
        metavar="N",
        help=f"{noun} (default: {shown})",
    )
