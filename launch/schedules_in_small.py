"""Old name of `python -m xcomp_jax.launch.studies.schedules`."""

import sys

from xcomp_jax.launch.studies.schedules.command import main

if __name__ == "__main__":
    sys.exit(main())
