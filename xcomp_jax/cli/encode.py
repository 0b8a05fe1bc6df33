"""`xcomp encode`: stores visual tokens of videos, or encoder features of a data mixture."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from xcomp_jax.cli.arguments import (
    STORE,
    add_frames,
    add_model,
    add_selection,
    add_store,
    load_session,
)
from xcomp_jax.cli.checks import check_checkpoint, check_config, check_file, check_options, flag
from xcomp_jax.cli.display import Bars
from xcomp_jax.cli.flag_names import with_flags
from xcomp_jax.cli.mixture import add_mixture_options, default_table, resolve_mixture
from xcomp_jax.cli.processes import DISTRIBUTED_HELP, claimed_share, run_distributed
from xcomp_jax.cli.reading import add_reading, print_notes, probe_video
from xcomp_jax.terminal.output import describe
from xcomp_jax.terminal.values import whole_number

DESCRIPTION = """Encodes every clip that questions about these videos may need and stores the visual
tokens. xcomp ask and xcomp chat with the same --store, frames and selection then encode only the
clips that a question cuts anew from selected frames (none with --select all or --granularity clip).
After an interruption, run the command again: stored clips are checked and kept, missing or damaged
ones are encoded. A video that cannot be read is reported and skipped.

With --mixture, runs the encoder without the projector over every image and video of a data mixture,
so that training from this store (data.mixture.features) decodes and encodes nothing. Run xcomp scan
on the mixture first. Several processes can share the work: with --distributed on a cluster,
elsewhere with --num-processes and --process-id."""

EXAMPLES = """examples:
  xcomp encode film.mp4 talk.webm --checkpoint checkpoints/xcomp-2b --frames 4096
  xcomp encode clips/*.mp4 --checkpoint runs/smoke/checkpoint --store tokens --select all
  xcomp encode --mixture mixture.yaml --config configs/xcomp_2b.py --table scan.csv --store features
  xcomp encode --mixture mixture.yaml --config configs/xcomp_2b.py --table scan.csv \\
      --store /shared/features --num-processes 4 --process-id 0    # and 1, 2, 3 on other machines
  srun xcomp encode --distributed --mixture mixture.yaml --config configs/xcomp_2b.py \\
      --table scan.csv --store /shared/features

Without --checkpoint, --mixture takes the encoder of the configuration's init_from.
Exit codes: 0 all encoded, 1 some files failed, 2 wrong options or checkpoint, 74 another process of
--distributed was lost, 130 interrupted (Ctrl-C).
"""

JOIN_TIMEOUT_SECONDS = 7 * 24 * 3600
"""Time that the first process waits for the last to finish; files differ in length."""


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
    add_reading(parser)
    add_selection(parser)
    add_store(parser, default=STORE)
    _add_mixture(parser)
    parser.set_defaults(run=run)


def _add_mixture(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "mixture",
        "The encoder comes from --checkpoint, or from the configuration's init_from. The store\n"
        "(--store, or data.mixture.features) holds features only and has no size limit.",
    )
    group.add_argument(
        "--mixture", type=Path, metavar="FILE", help="YAML file of a data mixture, instead of VIDEO"
    )
    add_mixture_options(group)
    group.add_argument(
        "--table",
        type=Path,
        metavar="FILE.csv",
        help="table written by xcomp scan (default: data.mixture.table, or MIXTURE.scan.csv)",
    )
    group.add_argument(
        "--workers",
        type=whole_number(1, 4096),
        default=(os.cpu_count() or 1) + 1,
        metavar="N",
        help="number of files decoded in parallel (default: %(default)s)",
    )
    group.add_argument("--distributed", action="store_true", help=DISTRIBUTED_HELP)
    group.add_argument(
        "--num-processes",
        type=whole_number(1, 1 << 20),
        default=1,
        metavar="N",
        help="number of independent processes that share the files (default: 1)",
    )
    group.add_argument(
        "--process-id",
        type=whole_number(0, 1 << 20),
        default=0,
        metavar="I",
        help="index of this process, from 0 to N - 1 (default: 0)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns 1 if any file could not be encoded."""
    if options.videos and options.mixture is not None:
        raise ValueError("pass either VIDEO or --mixture FILE, not both")
    if not options.videos and options.mixture is None:
        raise ValueError("nothing to encode; pass VIDEO, or --mixture FILE")
    if options.mixture is None:
        _check_unset(options, _add_mixture, "applies to --mixture FILE only")
        return _encode_videos(options)
    for add in (add_frames, add_reading, add_selection):
        _check_unset(
            options, add, "applies to videos only; a mixture uses the sampling of --config"
        )
    add_size = functools.partial(add_store, default=options.store)
    _check_unset(options, add_size, "applies to videos only; a feature store has no size limit")
    _check_numbers(options)
    check_file(options.mixture, "--mixture ")
    check_config(options.config)
    check_checkpoint(options)
    if not options.distributed:
        return _encode_mixture(options, options.process_id, options.num_processes)
    return run_distributed("xcomp encode", _join, lambda: _encode_shared(options))


def _check_unset(
    options: argparse.Namespace, add: Callable[[argparse.ArgumentParser], None], reason: str
) -> None:
    """Raises ValueError if an option defined by `add` differs from its default."""
    parser = argparse.ArgumentParser()
    add(parser)
    for name, default in vars(parser.parse_args([])).items():
        if getattr(options, name) != default:
            raise ValueError(f"{flag(name)} {reason}; remove it")


def _check_numbers(options: argparse.Namespace) -> None:
    number, count = options.process_id, options.num_processes
    if options.distributed and (number, count) != (0, 1):
        raise ValueError(
            f"--distributed reads the processes from the cluster, but --process-id is {number} and "
            f"--num-processes is {count}; remove --distributed or these"
        )
    if not 0 <= number < count:
        raise ValueError(
            f"--process-id {number} is not in [0, {count}), with --num-processes {count}"
        )


def _encode_videos(options: argparse.Namespace) -> int:
    from xcomp_jax.account import Account
    from xcomp_jax.video.errors import VideoError

    check_options(options)
    check_checkpoint(options)
    present = _present_videos(options.videos)
    failed = len(options.videos) - len(present)
    if not present:
        return 1
    session = load_session(options)
    for video in present:
        try:
            with Account() as account, Bars() as bars:
                encoded = session.encode_video(
                    probe_video(options, video),
                    num_frames=options.frames,
                    start=options.start,
                    end=options.end,
                    verify=True,
                    progress=bars,
                )
        except VideoError as error:
            failed += 1
            print(f"xcomp encode: {with_flags(describe(error))}", file=sys.stderr)
            continue
        work = account.work
        print_notes(encoded, "encode")
        print(
            f"{video}: {work.get('clips encoded', 0)} clips encoded, "
            f"{work.get('clips repeated', 0)} equal to another clip, "
            f"{work.get('clips reused', 0)} already stored"
        )
    return 1 if failed else 0


def _present_videos(videos: Sequence[str]) -> list[str]:
    """Returns the videos that exist; reports the others before the model is loaded."""
    from xcomp_jax.video.errors import VideoError
    from xcomp_jax.video.ffmpeg import local_path

    present = []
    for video in videos:
        try:
            local_path(video)
        except VideoError as error:
            print(f"xcomp encode: {error}", file=sys.stderr)
        else:
            present.append(video)
    return present


def _join() -> None:
    from xcomp_jax.processes import connect

    connect(shutdown_seconds=JOIN_TIMEOUT_SECONDS)


def _encode_shared(options: argparse.Namespace) -> int:
    import jax

    return _encode_mixture(options, jax.process_index(), jax.process_count())


def _encode_mixture(options: argparse.Namespace, process_id: int, num_processes: int) -> int:
    from xcomp_jax.config import ConfigError
    from xcomp_jax.data.mixture.samples import load_mixture
    from xcomp_jax.data.mixture.scan_table import read_table
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.engine.compile_progress import show_compilations
    from xcomp_jax.inference.encode_mixture import encode_media, open_encoder
    from xcomp_jax.processes import require_equal
    from xcomp_jax.training.run_facts import code_facts, file_facts

    request = resolve_mixture(options, options.mixture)
    init_from = None if request.experiment is None else request.experiment.init_from
    checkpoint = str(options.checkpoint or init_from or "")
    folder = str(options.store.expanduser())
    if options.store == STORE:  # the default is the token store of videos
        folder = request.mixture.features
    table_path = options.table or Path(request.mixture.table or default_table(options.mixture))
    for present, needed, meaning in (
        (checkpoint, "--checkpoint DIR or init_from in --config", "the model whose encoder runs"),
        (folder, "--store DIR", "a folder for features only"),
    ):
        if not present:
            raise ConfigError(f"--mixture needs {needed}, {meaning}")
    if not table_path.is_file():
        raise ConfigError(
            f"{table_path} does not exist; write it with `xcomp scan {options.mixture} --out "
            f"{table_path}` and the same --config, or name another table with --table"
        )
    if options.distributed:
        files = {"--mixture": options.mixture, "--table": table_path}
        require_equal({**code_facts(), **file_facts(files), "sampling": repr(request.sampling)})
    mixture = load_mixture(request.mixture)
    if mixture.bad:
        print(
            f"xcomp encode: {len(mixture.bad)} of {len(mixture)} entries are invalid and left out; "
            f"`xcomp scan {options.mixture}` gives the reasons",
            file=sys.stderr,
        )
    use_compilation_cache(options.cache_dir.expanduser())
    show_compilations()
    store, encoder, model = open_encoder(Path(checkpoint), Path(folder), dtype=options.dtype)
    with claimed_share(Path(folder), process_id, num_processes):
        encoded, problems = encode_media(
            mixture.samples,
            read_table(table_path),
            store,
            encoder,
            root=Path(request.mixture.root),
            sampling=request.sampling,
            config=model,
            process_index=process_id,
            process_count=num_processes,
            workers=options.workers,
        )
    for media, reason in problems:
        name = "" if str(media.path) in reason else f"{media.path}: "
        print(f"xcomp encode: {name}{reason}", file=sys.stderr)
    print(f"{folder}: {encoded} files encoded, {len(problems)} failed")
    return 1 if problems else 0
