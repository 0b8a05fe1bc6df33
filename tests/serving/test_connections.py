"""Tests that connections of slow readers are closed, with uvicorn and real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvicorn
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from xcomp_jax.serving import server

PART, PARTS = b"x" * (1 << 20), 96
LIMIT_SECONDS = 3.0


@pytest.fixture(name="ended")
def ended_fixture() -> list[int]:
    """Parts that each response sent before it ended."""
    return []


@pytest.fixture(name="address")
def address_fixture(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(server, "UNREAD_SECONDS", LIMIT_SECONDS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left = [PART] * PARTS

        async def parts() -> AsyncIterator[bytes]:
            while left:
                yield left.pop()
                await asyncio.sleep(0)  # as after reading a file

        try:
            await StreamingResponse(parts())(scope, receive, send)
        finally:
            ended.append(PARTS - len(left))

    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=server.Protocol, loop="asyncio", lifespan="off", ws="none", log_config=None
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]})
    thread.start()
    yield sock.getsockname()
    running.should_exit = True
    thread.join()
    sock.close()


@pytest.mark.parametrize("reads", [False, True])
def test_client_that_does_not_read_is_cut(
    reads: bool, address: tuple[str, int], ended: list[int]
) -> None:
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        begin = time.monotonic()
        while not ended and time.monotonic() - begin < 60:
            # Control: a slow reader, who takes longer than the limit, gets everything.
            if reads:
                client.recv(len(PART), socket.MSG_WAITALL)
            time.sleep(0.05)
        assert len(ended) == 1
        if reads:
            assert time.monotonic() - begin > LIMIT_SECONDS
            assert ended == [PARTS]
        else:
            assert ended[0] < PARTS
