"""Old name of `xcomp bench selection-speed`."""

import sys

from xcomp_jax.launch.bench.command import main

if __name__ == "__main__":
    sys.exit(main(["selection-speed", *sys.argv[1:]]))
