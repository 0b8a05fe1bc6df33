"""Defines the options of a server, and checks its keys and its address."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from pathlib import Path

from xcomp_jax.cli.arguments import MAX_FRAMES
from xcomp_jax.terminal.values import real_number, whole_number

DATA = Path("~/.cache/xcomp-jax/serve")
MIN_KEY_LENGTH = 16


def add_server(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the server: addresses, folders and limits."""
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
    _add_access(parser)
    _add_limits(parser)


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
