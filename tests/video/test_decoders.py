"""Tests how videos that are read at the same time share the decoders."""

from __future__ import annotations

import contextlib
import threading
import time

from xcomp_jax.video.decoders import Decoders, Share


def most_at_once(shares: list[Share], per_reader: int) -> list[int]:
    """Runs `per_reader` decoders of each reader at once; returns the most that ran together."""
    running, most = [0] * len(shares), [0] * len(shares)
    lock = threading.Lock()

    def decode(number: int) -> None:
        with shares[number].decoder():
            with lock:
                running[number] += 1
                most[number] = max(most[number], running[number])
            time.sleep(0.02)
            with lock:
                running[number] -= 1

    threads = [
        threading.Thread(target=decode, args=(number,))
        for number in range(len(shares))
        for _ in range(per_reader)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


def test_decoders_readers_share_the_cores() -> None:
    decoders = Decoders(cores=4)
    for readers, each in ((1, 4), (2, 2), (3, 1), (5, 1)):
        with contextlib.ExitStack() as stack:
            shares = [stack.enter_context(decoders.reader()) for _ in range(readers)]
            assert most_at_once(shares, per_reader=6) == [each] * readers
    assert decoders.limit() == 4
