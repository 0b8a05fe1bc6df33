"""Makes the demo: `python -m xcomp_jax.launch.studies.demo --help`."""

import sys

from xcomp_jax.interruption import run_command
from xcomp_jax.launch.studies.demo.command import main

if __name__ == "__main__":
    sys.exit(run_command("demo", main))
