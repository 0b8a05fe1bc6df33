"""Old name of `xcomp bench ask`."""

import sys

from xcomp_jax.launch.bench.command import main

if __name__ == "__main__":
    sys.exit(main(["ask", *sys.argv[1:]]))
