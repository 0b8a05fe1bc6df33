"""Runs a server in this process until a signal, then drains it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from xcomp_jax.serving.app import create_app
from xcomp_jax.serving.services import Services

HEADER_SECONDS = 10.0
"""Time that a connection has to send the headers of a request."""

UNREAD_SECONDS = 60.0
"""Time that a client has to read some of a response; players that pause ask for the rest again."""

KEEP_ALIVE_SECONDS = 15
MAX_CONNECTIONS = 512


class Protocol(H11Protocol):
    """HTTP/1.1 that closes connections whose headers or readers do not come in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._expect_headers()

    def pause_writing(self) -> None:
        """Called when too much of a response is unread."""
        super().pause_writing()
        # Unlike `close`, which waits until everything is sent.
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_unread()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_headers()
        else:
            self._end_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._end_unread()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class Server(uvicorn.Server):
    """Stops at the first SIGINT or SIGTERM as soon as answers in progress are complete.

    At a second one, the handlers of the command end the process.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._services.is_draining:
            self.force_exit = True
        else:
            name = signal.Signals(sig).name
            print(f"xcomp serve: {name}, finishing answers in progress", file=sys.stderr)
        self._services.is_draining = True
        super().handle_exit(sig, frame)


def run_server(services: Services, *, started: Callable[[str], None]) -> None:
    """Serves until a signal.

    Args:
        started: called with the URL once connections are accepted.

    Raises:
        OSError: the address cannot be used.
    """
    settings = services.config
    config = uvicorn.Config(
        create_app(services),
        loop="asyncio",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        limit_concurrency=MAX_CONNECTIONS,
        proxy_headers=False,
    )
    sock = _bound_socket(settings.host, settings.port)
    server = Server(config, services)
    host, port = sock.getsockname()[:2]
    services.start()
    try:
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[sock])
    finally:
        services.stop(at_once=server.force_exit)
        sock.close()


def _bound_socket(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Raises:
        OSError: the address is invalid or in use; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named. With it, a response in
    # two parts waits 40 ms for the client to acknowledge the first.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(
            f"--host {host} --port {port} cannot be used ({error.strerror}); use another port, or "
            "port 0 for a free one"
        ) from error
    return sock
