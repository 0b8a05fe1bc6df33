"""Checks every request before its body is read, and bounds its body and time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.metrics import Metrics
from xcomp_jax.serving.multipart import too_large
from xcomp_jax.serving.settings import MIB, ServingConfig

CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Files are checked by their ETag, so that an upgraded page is seen at once.
    "Cache-Control": "no-cache",
}
PROTECTED = ("/v1/", "/metrics")
MEDIA = re.compile(r"/v1/videos/(video-[0-9a-f]{24})/(content|frames/\d+\.jpg)")
UPLOADS = re.compile(r"/v1/(files|uploads/[^/]+/parts)/?")
PUBLIC = "public"
"""Owner of requests for the page and for health."""

METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS")
FORM_BYTES = MIB
"""Room for the form around an uploaded file."""

LINGER_SECONDS = 15
"""Time for a client to finish sending a body that was refused."""

BODY_BYTES_PER_SECOND = 1024
"""Slowest mean pace of a body, after its first pause."""

MEDIA_SECONDS = 12 * 3600
"""Life of a link to a video's bytes."""


class Keys:
    """Checks API keys in constant time, and signs links for players, which send no headers."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._secret = secrets.token_bytes(32)

    @property
    def is_required(self) -> bool:
        """True if requests need a key."""
        return bool(self._digests)

    def owner(self, authorization: str | None) -> str | None:
        """Returns the name of the key in an Authorization header; None if it is not valid."""
        if not self.is_required:
            return "anyone"
        scheme, _, key = (authorization or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # Every key is compared, so that the time does not tell which one is close.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            return None
        return digest.hex()[:16]

    def media_token(self, video_id: str) -> str:
        """Returns the token of links to a video's bytes; empty if no key is required."""
        if not self.is_required:
            return ""
        expires = int(time.time()) + MEDIA_SECONDS
        return f"{expires}.{self._signature(video_id, expires)}"

    def is_media_token(self, video_id: str, token: str) -> bool:
        """Returns True if a token is valid for a video and has not expired."""
        expires, _, signature = token.partition(".")
        if not re.fullmatch(r"\d{1,12}", expires) or int(expires) < time.time():
            return False
        return hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._signature(video_id, int(expires)).encode()
        )

    def _signature(self, video_id: str, expires: int) -> str:
        text = f"{video_id} {expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


class Security:
    """ASGI middleware: host, origin, key, parallel requests, size and pace of the body."""

    def __init__(
        self, app: ASGIApp, *, config: ServingConfig, keys: Keys, metrics: Metrics
    ) -> None:
        self._app, self._config, self._keys, self._metrics = app, config, keys, metrics
        self._parallel: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, body = 0, None

        async def send_checked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # Mounted pages have no route; their paths are few.
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._metrics.requests.labels(method, route, status).inc()
                if status == 429:
                    self._metrics.refused.inc()
            elif (
                400 <= status != 408
                and not message.get("more_body", False)
                and (body is None or not body.is_complete)
            ):
                await _send_last_part(message, receive, send)
                return
            await send(message)

        try:
            headers = Headers(scope=scope)
            check_host(headers.getlist("host"), self._config, is_keyed=self._keys.is_required)
            check_origin(headers)
            owner = self._owner(scope, headers)
            scope.setdefault("state", {})["owner"] = owner
            body = _Body(
                receive, self._body_limit(scope, headers), self._config.limits.body_seconds
            )
            is_full = self._parallel[owner] >= self._config.limits.max_parallel
            if is_full and owner != PUBLIC:
                raise ApiError(
                    429,
                    f"{self._config.limits.max_parallel} requests are in progress, the limit per "
                    "key; wait for one to end",
                    code="too_many_requests",
                    retry_after=1,
                )
            self._parallel[owner] += 1
            try:
                await self._app(scope, body.receive, send_checked)
            finally:
                self._parallel[owner] -= 1
        except ApiError as error:
            if status:
                raise
            response = error.response()
            # The rest of the body is not read, so the connection cannot be used again.
            response.headers["Connection"] = "close"
            await response(scope, receive, send_checked)

    def _owner(self, scope: Scope, headers: Mapping[str, str]) -> str:
        path = scope["path"]
        if not path.startswith(PROTECTED):
            return PUBLIC
        owner = self._keys.owner(headers.get("authorization"))
        if owner is not None:
            return owner
        media = MEDIA.fullmatch(path)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        is_read = scope["method"] in ("GET", "HEAD")
        if media and is_read and self._keys.is_media_token(media[1], token):
            return "player"
        raise ApiError(
            401,
            "a valid API key is required; send the header Authorization: Bearer KEY",
            code="invalid_api_key",
        )

    def _body_limit(self, scope: Scope, headers: Mapping[str, str]) -> int:
        """Returns the most bytes of a request's body, and refuses a larger stated length.

        Raises:
            ApiError: the stated length is too large, or no number.
        """
        limits = self._config.limits
        is_upload = bool(UPLOADS.fullmatch(scope["path"]))
        most = limits.max_upload_bytes + FORM_BYTES if is_upload else limits.max_json_bytes
        stated = headers.get("content-length")
        if stated is not None and (not stated.isdecimal() or len(stated) > 18):
            raise ApiError(400, "Content-Length is not a number")
        if stated is not None and int(stated) > most:
            raise too_large(limits.max_upload_bytes if is_upload else most)
        return most


async def _send_last_part(message: Message, receive: Receive, send: Send) -> None:
    """Ends a response after the rest of the request was read and dropped, for some seconds.

    A connection that is closed before is reset, and the client loses the message that says why.
    """
    await send({**message, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """Receives a body with a bound on its size, on its pauses, and on its pace."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive, self._most, self._seconds = receive, most, seconds
        self._size, self._waited, self.is_complete = 0, 0.0, False

    async def receive(self) -> Message:
        if self.is_complete:
            return await self._receive()
        allowed = self._seconds + self._size / BODY_BYTES_PER_SECOND - self._waited
        begin = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), min(self._seconds, allowed))
        except TimeoutError:
            raise ApiError(
                408,
                f"the body stopped for {self._seconds:g} s, or arrives with less than "
                f"{BODY_BYTES_PER_SECOND:,} bytes per second; send the request again",
                code="timeout",
            ) from None
        self._waited += time.monotonic() - begin
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
            if self._size > self._most:
                raise too_large(self._most)
        return message


def check_host(hosts: Sequence[str], config: ServingConfig, *, is_keyed: bool) -> None:
    """Refuses requests by names that the server does not have: a page elsewhere may have one.

    Addresses and localhost are accepted, and with an API key every name, because such a page has no
    key.

    Raises:
        ApiError: the Host header is missing, repeated, or names another server.
    """
    host = _name(hosts[0]) if len(hosts) == 1 else ""
    allowed = {name.lower() for name in (*config.allowed_hosts, "localhost")}
    if host and (host in allowed or _is_address(host) or (is_keyed and "*" not in host)):
        return
    raise ApiError(
        421,
        f"the Host header {hosts[0][:100] if hosts else ''!r} is not a name of this server; use "
        "its address, or start it with --allow-host NAME",
        code="host_not_allowed",
    )


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuses requests that a page of another origin makes a browser send.

    Raises:
        ApiError: the request comes from such a page.
    """
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower():
        raise ApiError(403, "requests from pages of other origins are not allowed", code="origin")
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") not in (
        None,
        "navigate",
    ):
        raise ApiError(403, "requests from pages of other sites are not allowed", code="origin")


def _name(host: str) -> str:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", host)
    return "" if match is None else match[1].strip("[]").lower().rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
