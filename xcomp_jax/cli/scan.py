"""`xcomp scan`: checks a mixture before training, or a benchmark's folder before a run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcomp_jax.cli.checks import check_config, check_file, refuse_without_effect
from xcomp_jax.cli.mixture import (
    MixtureSettings,
    add_mixture_options,
    default_table,
    resolve_mixture,
)
from xcomp_jax.cli.scan_benchmark import scan_benchmark
from xcomp_jax.cli.scan_summary import print_files, print_samples
from xcomp_jax.files import check_writable
from xcomp_jax.terminal.values import real_number, whole_number

if TYPE_CHECKING:
    from xcomp_jax.config import ExperimentConfig
    from xcomp_jax.data.mixture.reader import MixtureReader
    from xcomp_jax.data.mixture.scan_table import Table

DESCRIPTION = """Checks that every sample of a data mixture can be trained on: its entry and its
conversation are valid, its text is not too long (with --config), and its image or video exists, is
readable and has enough frames. Frames are counted, not decoded. Writes a table with the status of
every file and prints the number of samples that a run would use, leave out and skip, with the
reasons. A repeated scan skips files that were readable and whose size has not changed (for a
folder: names and sizes of its images). Training reads the lengths of its examples from this table
(data.mixture.table).

With --benchmark, checks the data folder of a benchmark instead: which published question set it
holds, and which videos and subtitles are missing, unreadable or short."""

EXAMPLES = """examples:
  xcomp scan mixture.yaml
  xcomp scan mixture.yaml --config configs/xcomp_2b.py --root /data --out scan.csv --workers 64
  xcomp scan --benchmark lvbench /data/LVBench

exit codes: 0 on success; 1 if the share of bad samples is above --max-bad, most samples of a set
are bad, or a question of a benchmark would fail; 2 if the data or the options are invalid
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "scan",
        help="check the samples and files of a data mixture, or the folder of a benchmark",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "mixture",
        type=Path,
        metavar="MIXTURE",
        help="yaml file of the mixture, or data folder of --benchmark",
    )
    parser.add_argument(
        "--benchmark", metavar="NAME", help="benchmark whose data folder is checked, such as mlvu"
    )
    parser.add_argument(
        "--protocol",
        metavar="published|vcf|FILE",
        help="with --benchmark: settings of the run (default: published)",
    )
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
        "--decode",
        action="store_true",
        help="decode every video and count its damaged frames; without it, damage is found only "
        "where packets are marked, missing or zeros",
    )
    parser.add_argument(
        "--max-bad",
        type=real_number(0, 1),
        metavar="SHARE",
        help="allowed share of bad samples, from 0 to 1 (default: as in --config, or 0.01)",
    )
    parser.add_argument("--quiet", action="store_true", help="hide the progress bar")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    if options.benchmark is not None:
        return scan_benchmark(options)
    refuse_without_effect(options, ["protocol"], "without --benchmark NAME")
    check_file(options.mixture)
    check_config(options.config)
    from xcomp_jax.data.mixture.judge import bad_set, check_entries, judge_samples
    from xcomp_jax.data.mixture.samples import BadSample, load_mixture
    from xcomp_jax.data.mixture.scan import scan
    from xcomp_jax.data.mixture.scan_table import report_media, write_table

    settings = resolve_mixture(options, options.mixture)
    max_bad = settings.mixture.max_bad if options.max_bad is None else options.max_bad
    mixture, root = load_mixture(settings.mixture), Path(settings.mixture.root)
    out = options.out or default_table(options.mixture)
    check_writable(out)
    check_entries(mixture, max_bad=max_bad, prompt_as_asked=settings.prompt_as_asked)
    texts = _tokenizer(settings.experiment)  # before the files, which may take hours
    samples = mixture.samples
    table = scan(
        samples,
        root,
        out,
        workers=options.workers,
        decode=options.decode,
        max_damaged=settings.sampling.max_damaged,
        progress=not options.quiet,
    )
    reports = report_media(
        samples, table, root, sampling=settings.sampling, clip_frames=settings.clip_frames
    )
    write_table(out, reports, table)
    results = judge_samples(samples, _reader(settings, table, *texts))
    bad = [*mixture.bad, *(result for result in results if isinstance(result, BadSample))]
    print_files(reports, root)
    print_samples(mixture, bad)
    print(f"table: {out}")
    problem = bad_set(mixture, bad, max_bad)
    if len(bad) > max_bad * len(mixture):
        problem = (
            f"{len(bad)} of {len(mixture)} samples are bad, a share of "
            f"{len(bad) / len(mixture):.4g}, more than --max-bad {max_bad:g}; correct them, or "
            "raise --max-bad"
        )
    if problem:
        print(f"xcomp scan: {problem}", file=sys.stderr)
    return 1 if problem else 0


def _reader(
    settings: MixtureSettings, table: Table, tokenizer: Any, max_text_tokens: int
) -> MixtureReader:
    """Returns the reader of a run, without stored features and without reading any file."""
    from xcomp_jax.data.mixture.reader import MixtureReader

    return MixtureReader(
        config=settings.mixture,
        sampling=settings.sampling,
        image_size=settings.image_size,
        clip_frames=settings.clip_frames,
        tokenizer=tokenizer,
        max_text_tokens=max_text_tokens,
        prompt_as_asked=settings.prompt_as_asked,
        table=table,
    )


def _tokenizer(experiment: ExperimentConfig | None) -> tuple[Any, int]:
    """Returns the tokenizer of the run and its limit of text tokens.

    Without a run, or without its tokenizer on this machine, the built-in one finds every fault but
    the length of a text.
    """
    from xcomp_jax.config import ConfigError
    from xcomp_jax.text.tokenizer import load_tokenizer
    from xcomp_jax.training.run_tokenizer import run_tokenizer

    unlimited = load_tokenizer(None), sys.maxsize
    if experiment is None:
        return unlimited
    base = experiment.init_from
    reason = ""
    if experiment.data.tokenizer is None and base is not None and not Path(base).is_dir():
        reason = f"init_from={base!r}, whose tokenizer the run takes, is not a folder here"
    else:
        try:
            return run_tokenizer(experiment), experiment.data.max_text_tokens
        except ConfigError:
            raise
        except ValueError as error:
            reason = str(error)
    print(f"xcomp scan: the lengths of texts are not checked: {reason}", file=sys.stderr)
    return unlimited
