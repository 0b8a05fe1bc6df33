"""Run one bench: `python -m xcomp_jax.launch.bench --help`."""

import sys

from xcomp_jax.interruption import run_command
from xcomp_jax.launch.bench.command import main

if __name__ == "__main__":
    sys.exit(run_command("bench", main))
