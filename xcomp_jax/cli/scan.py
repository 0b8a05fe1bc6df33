"""`xcomp scan`: checks the media files of a mixture before training."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.cli.checks import check_config, check_file
from xcomp_jax.cli.mixture import add_mixture_options, default_table, resolve_mixture
from xcomp_jax.terminal.values import real_number, whole_number

if TYPE_CHECKING:
    from xcomp_jax.data.mixture.scan_table import MediaReport

DESCRIPTION = """Checks that every image and video of a data mixture exists, is readable and has
enough frames for a training example. Frames are counted, not decoded. Writes a table with the
status of every file and prints a summary. A repeated scan skips files that were readable and whose
size has not changed (for a folder: names and sizes of its images). Training reads the lengths of
its examples from this table (data.mixture.table)."""

EXAMPLES = """examples:
  xcomp scan mixture.yaml
  xcomp scan mixture.yaml --config configs/xcomp_2b.py --root /data --out scan.csv --workers 64

exit codes: 0 on success; 1 if the share of samples with a bad file is above --max-bad; 2 if the
mixture or the options are invalid
"""

MAX_LISTED = 5
"""Number of bad files that the summary lists."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "scan",
        help="check the files of a data mixture",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mixture", type=Path, metavar="MIXTURE", help="yaml file of the mixture")
    add_mixture_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.csv",
        help="output table (default: MIXTURE.scan.csv, next to the mixture)",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1, 4096),
        default=2 * (os.cpu_count() or 1),
        metavar="N",
        help="number of files checked in parallel; raise it for slow storage "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-bad",
        type=real_number(0, 1),
        metavar="SHARE",
        help="allowed share of samples with a bad file (default: as in --config, or 0.01)",
    )
    parser.add_argument("--quiet", action="store_true", help="hide the progress bar")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    check_file(options.mixture)
    check_config(options.config)
    from xcomp_jax.data.mixture.samples import load_mixture
    from xcomp_jax.data.mixture.scan import scan
    from xcomp_jax.data.mixture.scan_table import report_media, write_table

    settings = resolve_mixture(options, options.mixture)
    out = options.out or default_table(options.mixture)
    max_bad = settings.mixture.max_bad if options.max_bad is None else options.max_bad
    samples, root = load_mixture(settings.mixture).samples, Path(settings.mixture.root)
    table = scan(samples, root, out, workers=options.workers, progress=not options.quiet)
    reports = report_media(
        samples, table, root, sampling=settings.sampling, clip_frames=settings.clip_frames
    )
    write_table(out, reports, table)
    bad_reports = [report for report in reports if report.status != "ok"]
    _print_summary(reports, bad_reports, root)
    print(f"table: {out}")
    bad_share = sum(report.samples for report in bad_reports) / len(samples)
    if bad_share > max_bad:
        print(
            f"xcomp scan: {bad_share:.2%} of {len(samples)} samples have a bad file, more than "
            f"--max-bad {max_bad:g}; fix the files listed in the table, or raise --max-bad",
            file=sys.stderr,
        )
        return 1
    return 0


def _print_summary(
    reports: Sequence[MediaReport], bad_reports: Sequence[MediaReport], root: Path
) -> None:
    for status in ("ok", "missing", "unreadable", "too short"):
        samples = [report.samples for report in reports if report.status == status]
        print(f"{status:>10}: {len(samples)} files, {sum(samples)} samples")
    for report in bad_reports[:MAX_LISTED]:
        print(f"  {report.status}: {root / report.media.path}: {report.reason}")
    if len(bad_reports) > MAX_LISTED:
        print(f"  and {len(bad_reports) - MAX_LISTED} more")
