"""Old name of `xcomp preflight table`."""

import sys

from xcomp_jax.launch.preflight.command import main

if __name__ == "__main__":
    sys.exit(main(["table", *sys.argv[1:]]))
