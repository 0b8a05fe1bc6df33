"""Old name of `xcomp bench selection-costs`."""

import sys

from xcomp_jax.launch.bench.command import main

if __name__ == "__main__":
    sys.exit(main(["selection-costs", *sys.argv[1:]]))
