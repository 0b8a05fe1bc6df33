"""Functions that the tests run in other processes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.token_store.examples import contents, example_clips
from xcomp_jax.token_store import StoreKey, TokenStore, TokenStoreError

# Children are forked from a server process that has all imports but no threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

NOBODY = 65534


def start_process(work: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Starts a process that runs work(connection, *arguments); returns it and the other end."""
    parent_end, child_end = PROCESSES.Pipe()
    process = PROCESSES.Process(target=work, args=(child_end, *arguments))
    process.start()
    child_end.close()
    return process, parent_end


def encode(connection: Connection, root: Path, key: StoreKey, chunk: int, order: int) -> None:
    """Writes the missing clips, `chunk` per shard, from the front or (order=-1) the back."""
    with TokenStore(root).video(key) as video:
        missing = video.missing(range(key.num_clips))
        connection.send("in use")
        connection.recv()
        chunks = [missing[i : i + chunk] for i in range(0, len(missing), chunk)]
        for starts in chunks[::order]:
            video.write(example_clips(key, starts))
    connection.send("done")


def write_for_ever(connection: Connection, root: Path, key: StoreKey, chunk: int) -> None:
    """Writes the missing clips, then all clips again and again."""
    connection.send("ready")
    with TokenStore(root).video(key) as video:
        while True:
            missing = video.missing(range(key.num_clips)) or list(range(key.num_clips))
            for i in range(0, len(missing), chunk):
                video.write(example_clips(key, missing[i : i + chunk]))


def hold(connection: Connection, root: Path, key: StoreKey) -> None:
    """Keeps a video in use until it is killed."""
    with TokenStore(root).video(key):
        connection.send("in use")
        connection.recv()


def evict_often(connection: Connection, root: Path, times: int) -> None:
    """Evicts all videos not in use, until `times` videos are evicted."""
    store = TokenStore(root, max_bytes=1)
    while times > 0:
        times -= len(store.evict())
    connection.send("done")


def write_to_full_disk(connection: Connection, root: Path, key: StoreKey) -> None:
    """Writes under a file size limit and sends the error message."""
    video = TokenStore(root).video(key)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        video.write(example_clips(key, range(8, 16)))
    except TokenStoreError as error:
        connection.send(str(error))


def use_without_permission(
    connection: Connection, root: Path, stored: StoreKey, new: StoreKey, video_file: Path
) -> None:
    """Reads, hashes and writes in a read-only store; sends clips, hash and two error messages."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    store = TokenStore(root)
    with store.video(stored) as video:
        connection.send(contents(video.read(range(stored.num_clips))))
    connection.send(store.hash_video(video_file))
    for key in (stored, new):
        try:
            store.video(key).write(example_clips(key, [0]))
        except TokenStoreError as error:
            connection.send(str(error))
