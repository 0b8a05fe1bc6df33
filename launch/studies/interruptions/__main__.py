"""Run the study: `python -m xcomp_jax.launch.studies.interruptions --help`."""

import sys

from xcomp_jax.interruption import run_command
from xcomp_jax.launch.studies.interruptions.command import main

if __name__ == "__main__":
    sys.exit(run_command("interruptions", main))
