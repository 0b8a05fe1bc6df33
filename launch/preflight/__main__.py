"""Run the preflight check: `python -m xcomp_jax.launch.preflight --help`."""

import sys

from xcomp_jax.interruption import run_command
from xcomp_jax.launch.preflight.command import main

if __name__ == "__main__":
    sys.exit(run_command("preflight", main))
