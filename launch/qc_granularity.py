"""Old name of `python -m xcomp_jax.launch.studies.granularity`."""

import sys

from xcomp_jax.launch.studies.granularity import main

if __name__ == "__main__":
    sys.exit(main())
