"""Old name of `xcomp bench training-overhead`."""

import sys

from xcomp_jax.launch.bench.command import main

if __name__ == "__main__":
    sys.exit(main(["training-overhead", *sys.argv[1:]]))
