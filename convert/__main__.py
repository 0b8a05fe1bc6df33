"""Runs `xcomp convert` under its old spelling `python -m convert`."""

import sys

from xcomp_jax.cli.main import main
from xcomp_jax.interruption import run_command

if __name__ == "__main__":
    sys.exit(run_command("convert", lambda: main(["convert", *sys.argv[1:]])))
