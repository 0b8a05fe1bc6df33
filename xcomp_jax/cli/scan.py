"""`xcomp scan`: checks the files of a mixture before a run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from xcomp_jax.cli.mixture import add_mixture_options, asked_mixture, default_table

DESCRIPTION = """Looks at every image and video of a data mixture once: is it there, can it be read,
does it hold enough frames for an example? Videos are counted, not decoded. Writes a table of all of
them, with the reason where something is wrong, and prints a summary. Run again after any
interruption or repair: what was found good is not looked at again unless its size changed, or the
names or sizes of the images in a folder. A run takes the lengths of its examples from this table
(data.mixture.table)."""

EXAMPLES = """examples:
  xcomp scan mixture.yaml
  xcomp scan mixture.yaml --config configs/xcomp_2b.py --root /data --out scan.csv --workers 64

exit codes: 0, or 1 when the share of samples with a bad file is above --max-bad; 2 when the mixture
itself cannot be read
"""

SHOWN = 5


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "scan",
        help="check the files of a data mixture",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mixture", type=Path, metavar="MIXTURE", help="yaml file")
    add_mixture_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.csv",
        help="the table (default: beside the mixture, MIXTURE.scan.csv)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2 * (os.cpu_count() or 1),
        metavar="N",
        help="files looked at at a time; more help where storage is slow to answer "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-bad",
        type=float,
        metavar="SHARE",
        help="share of samples that may be bad (default: as configured, or 0.01)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; prints the summary."""
    from xcomp_jax.config import ConfigError
    from xcomp_jax.data.mixture.samples import load_mixture
    from xcomp_jax.data.mixture.scan import findings, scan, write_table

    if options.workers < 1:
        raise ConfigError(f"--workers {options.workers} must be at least 1")
    asked = asked_mixture(options, options.mixture)
    out = options.out or default_table(options.mixture)
    max_bad = asked.mixture.max_bad if options.max_bad is None else options.max_bad
    if not 0 <= max_bad <= 1:
        raise ConfigError(f"--max-bad {max_bad:g} must lie in [0, 1]")
    samples, root = load_mixture(asked.mixture).samples, Path(asked.mixture.root)
    table = scan(samples, root, out, workers=options.workers, progress=not options.quiet)
    found = findings(samples, table, root, sampling=asked.sampling, clip_frames=asked.clip_frames)
    write_table(out, found, table)

    for status in ("ok", "missing", "unreadable", "too short"):
        some = [one for one in found if one.status == status]
        print(f"{status:>10}: {len(some)} files, {sum(one.samples for one in some)} samples")
    bad = [one for one in found if one.status != "ok"]
    for one in bad[:SHOWN]:
        print(f"  {one.status}: {root / one.media.path}: {one.reason}")
    if len(bad) > SHOWN:
        print(f"  and {len(bad) - SHOWN} more")
    print(f"table: {out}")
    share = sum(one.samples for one in bad) / len(samples)
    if share > max_bad:
        print(
            f"xcomp scan: {share:.2%} of {len(samples)} samples have a bad file, more than "
            f"--max-bad {max_bad:g}; mend the files that the table lists, or raise it",
            file=sys.stderr,
        )
        return 1
    return 0
