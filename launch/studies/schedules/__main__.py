"""Run the study: `python -m xcomp_jax.launch.studies.schedules --help`."""

import sys

from xcomp_jax.launch.studies.schedules.command import main

if __name__ == "__main__":
    sys.exit(main())
