"""`xcomp serve`: answers questions about videos over HTTP."""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from pathlib import Path

from xcomp_jax.cli.arguments import (
    GIB,
    MAX_FRAMES,
    STORE,
    add_generation,
    add_model,
    add_quantization,
    add_selection,
    add_store,
    load_session,
)
from xcomp_jax.cli.checks import check_checkpoint, check_folder, check_options
from xcomp_jax.cli.model_name import model_name
from xcomp_jax.terminal.values import real_number, whole_number

DESCRIPTION = """Serves a model over HTTP in the schemas of OpenAI's API. A video is uploaded or
named once, encoded once, and can then be asked about any number of times. A page for the browser is
at /, the list of requests at /docs."""

EXAMPLES = """examples:
  xcomp serve --checkpoint checkpoints/xcomp-2b
  xcomp serve --checkpoint checkpoints/xcomp-2b --host 0.0.0.0 --api-key-file keys.txt
  curl http://127.0.0.1:8000/v1/files -F purpose=user_data -F file=@film.mp4
"""

DATA = Path("~/.cache/xcomp-jax/serve")
MIN_KEY_LENGTH = 16


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_server(parser)
    _add_access(parser)
    _add_limits(parser)
    add_model(parser)
    add_quantization(parser)
    add_generation(parser)
    add_selection(parser)
    add_store(parser, default=STORE)
    parser.set_defaults(run=run, max_damaged=None)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=whole_number(0, 65535),
        default=8000,
        metavar="N",
        help="port to listen on; 0 takes a free one (default: 8000)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA,
        metavar="DIR",
        help="folder of uploads and of the list of videos (default: %(default)s)",
    )
    parser.add_argument(
        "--warm-up",
        type=_frame_numbers,
        default=[],
        metavar="N,...",
        help="numbers of frames whose programs are compiled before the first request, or 'all' up "
        "to the checkpoint's largest (default: none; the first request of a size compiles)",
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("access")
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="file with the accepted API keys, one per line",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="accept requests without a key on an address that others can reach",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name of this server in the Host header; may be repeated",
    )
    group.add_argument(
        "--allow-folder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder below which file:// URLs may read; may be repeated (default: none)",
    )
    group.add_argument(
        "--allow-domains",
        nargs="+",
        default=[],
        metavar="HOST",
        help="hosts that videos may be downloaded from (default: none)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-memory",
        type=real_number(0.001, 1 << 20),
        default=8.0,
        metavar="GIB",
        help="memory for states of videos and conversations; the least recently used are dropped "
        "and computed again from the store (default: 8)",
    )
    group.add_argument(
        "--max-frames",
        type=whole_number(1, MAX_FRAMES),
        default=8192,
        metavar="N",
        help="largest number of frames of a video (default: 8192)",
    )
    group.add_argument(
        "--max-upload-mib",
        type=whole_number(1, 1 << 24),
        default=4096,
        metavar="N",
        help="largest uploaded file (default: 4096)",
    )
    group.add_argument(
        "--quota-gib",
        type=real_number(0.001, 1 << 20),
        default=64.0,
        metavar="G",
        help="size limit of all uploads together; further ones are refused (default: 64)",
    )
    group.add_argument(
        "--max-waiting",
        type=whole_number(1, 100_000),
        default=64,
        metavar="N",
        help="number of questions that may wait; further ones are refused (default: 64)",
    )
    group.add_argument(
        "--max-parallel",
        type=whole_number(1, 100_000),
        default=32,
        metavar="N",
        help="number of requests per key at a time (default: 32)",
    )


def _frame_numbers(text: str) -> list[int] | str:
    if text == "all":
        return text
    return [whole_number(1, MAX_FRAMES)(number) for number in text.split(",")]


def run(options: argparse.Namespace) -> int:
    """Runs the command until a signal."""
    check_options(options)
    check_checkpoint(options)
    check_packages()
    return _serve(options)


def check_packages() -> None:
    """Raises ValueError if the packages of the server are not installed."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"the server needs the package {error.name}; install it with `pip install "
            "'xcomp-jax[serve]'`"
        ) from None


def _serve(options: argparse.Namespace) -> int:
    from xcomp_jax.serving.server import run_server
    from xcomp_jax.serving.services import Services
    from xcomp_jax.serving.settings import Limits, ServingConfig
    from xcomp_jax.serving.warm_up import buckets_up_to, warm_up
    from xcomp_jax.token_store import TokenStore

    limits = Limits(
        max_frames=options.max_frames,
        max_upload_bytes=options.max_upload_mib << 20,
        quota_bytes=int(options.quota_gib * GIB),
        max_waiting=options.max_waiting,
        max_parallel=options.max_parallel,
    )
    for folder in options.allow_folder:
        check_folder(folder, "--allow-folder ")
    keys = read_keys(options.api_key_file)
    check_address(options, keys)
    config = ServingConfig(
        data=options.data.expanduser(),
        host=options.host,
        port=options.port,
        keys=keys,
        allowed_hosts=tuple(options.allow_host),
        allowed_folders=tuple(folder.expanduser().resolve() for folder in options.allow_folder),
        allowed_domains=tuple(options.allow_domains),
        max_memory_bytes=int(options.max_memory * GIB),
        model=re.sub(r"[^\w./@-]+", "-", model_name(options)),
        limits=limits,
    )
    session = load_session(options)
    store = TokenStore(options.store.expanduser(), max_bytes=int((options.store_gib or 50) * GIB))
    services = Services.create(config, session, store)
    if options.warm_up:
        clip = session.config.vision.clip_frames
        warm_up(
            session,
            buckets_up_to(session.sampling.max_frames, clip)
            if options.warm_up == "all"
            else [-(-count // clip) * clip for count in options.warm_up],
        )
    run_server(services, started=lambda url: print(f"serving at {url}", flush=True))
    return 0


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Reads API keys, one per line; lines that begin with # are comments.

    Raises:
        ValueError: there is no key, or one is too short to be safe.
    """
    if path is None:
        return ()
    from xcomp_jax.files import read_text

    lines = [line.strip() for line in read_text(path.expanduser()).splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"--api-key-file {path} has no key; write one per line")
    for key in keys:
        if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable():
            raise ValueError(
                f"--api-key-file {path}: a key has {len(key)} characters; use at least "
                f"{MIN_KEY_LENGTH} printable ASCII characters, such as the output of "
                "`openssl rand -hex 32`"
            )
    return tuple(keys)


def check_address(options: argparse.Namespace, keys: tuple[str, ...]) -> None:
    """Raises ValueError for an address that others can reach without a key."""
    try:
        is_local = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        is_local = options.host == "localhost"
    if options.insecure and keys:
        raise ValueError("--insecure has no effect with --api-key-file; remove one of them")
    if not is_local and not keys and not options.insecure:
        raise ValueError(
            f"--host {options.host} can be reached from other machines; add --api-key-file FILE, "
            "or --insecure if everyone who reaches it may use it"
        )
    if options.insecure and not is_local:
        print(
            f"xcomp serve: --insecure on {options.host}: everyone who reaches it may use it",
            file=sys.stderr,
        )
