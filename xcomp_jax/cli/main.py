"""Defines the `xcomp` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xcomp_jax import __version__
from xcomp_jax.cli import (
    ask,
    bench,
    chat,
    compare,
    convert,
    demo,
    encode,
    evaluate,
    preflight,
    scan,
    serve,
    tune,
)
from xcomp_jax.cli.flag_names import with_flags
from xcomp_jax.interruption import run_command
from xcomp_jax.terminal.output import (
    EXIT_CLOSED_PIPE,
    ClosedOutputError,
    close_bars,
    describe,
    use_lossless_text,
    written_output,
)
from xcomp_jax.terminal.parser import CommandParser

EXAMPLES = """examples:
  xcomp tune --config configs/smoke.py --workdir runs/smoke
  xcomp ask video.mp4 "What color is the moving shape?" --checkpoint runs/smoke/checkpoint
  xcomp ask film.mp4 "Who arrives first?" --checkpoint checkpoints/xcomp-2b --frames 1024
"""

NAMES_FLAGS = ("ask", "chat", "encode", "evaluate", "serve")
"""Commands whose flags set what messages of the library call by field names."""


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of all sub-commands; each sets `run`, a function of the parsed options."""
    parser = CommandParser(
        prog="xcomp",
        description="Long-video question answering with extreme token compression, in JAX.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"xcomp-jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ask.add_parser(commands)
    chat.add_parser(commands)
    compare.add_parser(commands)
    convert.add_parser(commands)
    demo.add_parser(commands)
    encode.add_parser(commands)
    evaluate.add_parser(commands)
    scan.add_parser(commands)
    serve.add_parser(commands)
    tune.add_parser(commands)
    preflight.add_parser(commands)
    bench.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. User errors print one paragraph on stderr and give exit code 2.

    Without `arguments` it is the command of this process (`run_command`) and ends it after Ctrl-C
    and SIGTERM; with them, as called from Python, it leaves signals to the caller.
    """
    if arguments is None:
        name = " ".join(["xcomp", *sys.argv[1:2]])
        return run_command(name, lambda: main(sys.argv[1:]))
    use_lossless_text()
    options = argparse.Namespace(command="")
    try:
        with written_output():
            options = build_parser().parse_args(arguments)
            return options.run(options)
    except ClosedOutputError:
        return EXIT_CLOSED_PIPE
    except (ValueError, OSError) as error:
        close_bars()
        message = describe(error)
        if options.command in NAMES_FLAGS:
            message = with_flags(message)
        print(f"xcomp {options.command}: {message}", file=sys.stderr)
        return 2
    finally:
        close_bars()  # before the line that reports an interruption


if __name__ == "__main__":
    sys.exit(main())
