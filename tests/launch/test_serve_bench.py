"""Tests the clients of `xcomp bench serve` against a server that closes idle connections."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from xcomp_jax.launch.bench import serve, serve_client
from xcomp_jax.launch.bench.serve_client import Client

EVENT = (
    b'data: {"choices":[{"delta":{"content":"red"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 0.2
    connections: ClassVar[set[object]] = set()

    def setup(self) -> None:
        super().setup()
        self.connections.add(self.client_address)

    def _reply(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = EVENT if self.path.endswith("completions") else b"{}"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    do_GET = do_POST = _reply

    def log_message(self, *arguments: object) -> None:
        """Stays silent."""


@pytest.fixture(name="port")
def port_fixture() -> Iterator[int]:
    _Handler.connections.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_client_idle_connection_is_opened_anew(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(Client(port)) as client:
        client.json("GET", "/")
        time.sleep(0.4)
        with pytest.raises(http.client.RemoteDisconnected):  # Control: reused when it is closed.
            client.json("GET", "/")
    monkeypatch.setattr(serve_client, "IDLE_SECONDS", 0.1)
    with contextlib.closing(Client(port)) as client:
        client.json("GET", "/")
        time.sleep(0.4)
        assert client.json("GET", "/") == {}


def test_clients_of_many_rounds_share_connections(port: int) -> None:
    with serve._asking(port, 4, 8) as ask:
        for _ in range(5):
            assert len(ask([("video", "What?")] * 8, 4).replies) == 8
    assert 1 <= len(_Handler.connections) <= 4
