"""`xcomp encode`: visual tokens of many videos into the store, or encoder output of a mixture."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from xcomp_jax.cli.arguments import (
    STORE,
    Bars,
    add_frames,
    add_model,
    add_selection,
    add_store,
    open_asked,
)
from xcomp_jax.cli.mixture import add_mixture_options, asked_mixture, default_table
from xcomp_jax.cli.processes import DISTRIBUTED_HELP, run_distributed

DESCRIPTION = """Runs the video encoder once over every clip that questions about these videos may
need and keeps the visual tokens, so that xcomp ask and xcomp chat with the same --store, frames
and selection decode and encode nothing. Run again after any interruption: what is there is checked
and kept, what is missing or damaged is made. A video that cannot be read is reported and passed
over.

With --mixture it runs the encoder, without the projector, over everything a data mixture shows, so
that training from this store (data.mixture.features) decodes and encodes nothing. The mixture is
scanned before (xcomp scan). Several processes share the work: those of a cluster with
--distributed, any others by number."""

EXAMPLES = """examples:
  xcomp encode film.mp4 talk.webm --checkpoint checkpoints/xcomp-2b --frames 4096
  xcomp encode clips/*.mp4 --checkpoint runs/smoke/checkpoint --store tokens --select all
  xcomp encode --mixture mixture.yaml --config configs/xcomp_2b.py --table scan.csv --store features
  xcomp encode --mixture mixture.yaml --config configs/xcomp_2b.py --table scan.csv \\
      --store /shared/features --num-processes 4 --process-id 0    # and 1, 2, 3 on other machines
  srun xcomp encode --distributed --mixture mixture.yaml --config configs/xcomp_2b.py \\
      --table scan.csv --store /shared/features
"""

PATIENCE = 7 * 24 * 3600


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "encode",
        help="encode videos ahead of questions",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="video file or folder of images")
    add_model(parser)
    add_frames(parser)
    add_selection(parser)
    add_store(parser, default=STORE)
    _add_mixture(parser)
    parser.set_defaults(run=run)


def _add_mixture(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a data mixture",
        "The model is --checkpoint, or what the configuration begins from (init_from). The store, "
        "--store or the configured one, is for nothing else and has no bound.",
    )
    group.add_argument("--mixture", type=Path, metavar="FILE", help="yaml file; takes no VIDEO")
    add_mixture_options(group)
    group.add_argument(
        "--table",
        type=Path,
        metavar="FILE.csv",
        help="what xcomp scan wrote (default: as configured, or MIXTURE.scan.csv)",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=(os.cpu_count() or 1) + 1,
        metavar="N",
        help="files decoded at a time (default: %(default)s)",
    )
    group.add_argument("--distributed", action="store_true", help=DISTRIBUTED_HELP)
    group.add_argument(
        "--num-processes",
        type=int,
        default=1,
        metavar="N",
        help="share the files among so many, which need not know of each other",
    )
    group.add_argument("--process-id", type=int, default=0, metavar="I", help="from 0 to N - 1")


def run(options: argparse.Namespace) -> int:
    """Runs the command; exit code 1 when some video could not be encoded."""
    from xcomp_jax.config import ConfigError

    if bool(options.videos) == (options.mixture is not None):
        raise ConfigError("give either videos or --mixture FILE")
    if options.mixture is None:
        _refuse(options, _add_mixture, "is an option of --mixture FILE")
        return _encode_videos(options)
    for add in (add_frames, add_selection):
        _refuse(options, add, "is for questions; what a mixture shows follows from --config")
    # Of these, --store itself counts.
    size = functools.partial(add_store, default=options.store)
    _refuse(options, size, "is for questions; a store of features has no bound")
    _check_numbers(options)
    if not options.distributed:
        return _encode_mixture(options, options.process_id, options.num_processes)
    return run_distributed("xcomp encode", _join, lambda: _encode_shared(options))


def _refuse(
    options: argparse.Namespace, add: Callable[[argparse.ArgumentParser], None], why: str
) -> None:
    """Raises ConfigError where one of the options that `add` adds is not as by default."""
    from xcomp_jax.config import ConfigError

    parser = argparse.ArgumentParser()
    add(parser)
    for name, default in vars(parser.parse_args([])).items():
        if getattr(options, name) != default:
            raise ConfigError(f"--{name.replace('_', '-')} {why}; leave it out")


def _check_numbers(options: argparse.Namespace) -> None:
    from xcomp_jax.config import ConfigError

    number, count = options.process_id, options.num_processes
    if options.distributed and (number, count) != (0, 1):
        raise ConfigError(
            f"--distributed asks the cluster who the processes are, --process-id {number} and "
            f"--num-processes {count} say it: leave out one or the other"
        )
    if not 0 <= number < count:
        raise ConfigError(
            f"--process-id {number} is not below --num-processes {count}: number them from 0"
        )


def _encode_videos(options: argparse.Namespace) -> int:
    from xcomp_jax.inference.answer import Stopwatch
    from xcomp_jax.video.errors import VideoError

    session = open_asked(options)
    failed = 0
    for video in options.videos:
        stopwatch = Stopwatch()
        try:
            with Bars() as bars:
                session.encode_video(
                    video,
                    num_frames=options.frames,
                    start=options.start,
                    end=options.end,
                    progress=bars,
                    stopwatch=stopwatch,
                    verify=True,
                )
        except VideoError as error:
            failed += 1
            print(f"xcomp encode: {error}", file=sys.stderr)
            continue
        work = stopwatch.work
        print(
            f"{video}: {work.get('clips encoded', 0)} clips encoded, "
            f"{work.get('clips reused', 0)} were there"
        )
    return 1 if failed else 0


def _join() -> None:
    from xcomp_jax.processes import connect

    # Nobody can say whose files take longest.
    connect(shutdown_seconds=PATIENCE)


def _encode_shared(options: argparse.Namespace) -> int:
    import jax

    return _encode_mixture(options, jax.process_index(), jax.process_count())


def _encode_mixture(options: argparse.Namespace, process_id: int, num_processes: int) -> int:
    from xcomp_jax.config import ConfigError
    from xcomp_jax.data.mixture.samples import load_mixture
    from xcomp_jax.data.mixture.scan import read_table
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.inference.encode_mixture import encode_media, open_encoder

    asked = asked_mixture(options, options.mixture)
    begins_from = None if asked.experiment is None else asked.experiment.init_from
    checkpoint = str(options.checkpoint or begins_from or "")
    folder = str(options.store.expanduser())
    if options.store == STORE:  # the default is for questions
        folder = asked.mixture.features
    table_path = options.table or Path(asked.mixture.table or default_table(options.mixture))
    for given, name, way in (
        (checkpoint, "--checkpoint DIR", "the model whose encoder runs"),
        (folder, "--store DIR", "a folder for features and nothing else"),
        (options.workers > 0, "--workers", "at least 1"),
    ):
        if not given:
            raise ConfigError(f"--mixture needs {name}: {way}")
    if not table_path.is_file():
        raise ConfigError(
            f"{table_path}: no such table; write it with `xcomp scan {options.mixture} --out "
            f"{table_path}` and the same --config, or name another with --table"
        )
    use_compilation_cache(options.cache_dir.expanduser())
    samples = load_mixture(asked.mixture).samples
    store, encoder, model = open_encoder(Path(checkpoint), Path(folder), dtype=options.dtype)
    made, problems = encode_media(
        samples,
        read_table(table_path),
        store,
        encoder,
        root=Path(asked.mixture.root),
        sampling=asked.sampling,
        config=model,
        process_index=process_id,
        process_count=num_processes,
        workers=options.workers,
    )
    for media, reason in problems:
        print(f"xcomp encode: {media.path}: {reason}", file=sys.stderr)
    print(f"{folder}: {made} files encoded, {len(problems)} could not be")
    return 1 if problems else 0
