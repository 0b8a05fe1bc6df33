"""Defines the sub-commands of `xcomp bench`."""

from __future__ import annotations

import argparse

from xcomp_jax.launch.bench.device_arguments import add_cycles, add_device_benches, add_fit
from xcomp_jax.launch.bench.paper.arguments import add_paper
from xcomp_jax.launch.bench.part_arguments import (
    add_encoder_cpu,
    add_frame_rates,
    add_pipeline,
    add_selection_costs,
    add_selection_speed,
)
from xcomp_jax.launch.bench.process_arguments import (
    add_ask,
    add_convert_roundtrip,
    add_serve,
    add_training_overhead,
)
from xcomp_jax.launch.bench.video_arguments import add_video

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


def add_benches(parser: argparse.ArgumentParser) -> None:
    """Adds every bench as a sub-command, in the order of the list in the help."""
    commands = parser.add_subparsers(dest="bench", required=True, metavar="NAME")
    add_device_benches(commands)
    add_fit(commands)
    add_cycles(commands)
    add_encoder_cpu(commands)
    add_selection_speed(commands)
    add_selection_costs(commands)
    add_ask(commands)
    add_training_overhead(commands)
    add_pipeline(commands)
    add_serve(commands)
    add_frame_rates(commands)
    add_convert_roundtrip(commands)
    add_video(commands)
    add_paper(commands)
