"""Run the study: `python -m xcomp_jax.launch.studies.schedules --help`."""

import sys

from xcomp_jax.interruption import run_command
from xcomp_jax.launch.studies.schedules.command import main

if __name__ == "__main__":
    sys.exit(run_command("schedules", main))
