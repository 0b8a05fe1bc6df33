"""Runs `xcomp convert` under its old spelling `python -m convert`."""

import sys

from xcomp_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
