"""Downloads videos from the hosts that the operator allows, and from no others.

A name is resolved once; every address must be public, and the connection goes to the address that
was checked. Redirects stay on the same host and scheme.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from xcomp_jax.serving.errors import ApiError

MAX_REDIRECTS = 3
CONNECT_SECONDS, TOTAL_SECONDS = 10.0, 600.0
CHUNK_BYTES = 1 << 18


def download(url: str, target: Path, *, allowed: Sequence[str], max_bytes: int) -> None:
    """Downloads `url` to `target`.

    Args:
        allowed: HOST or HOST:PORT entries. An entry that is an address itself may be private, but
            never link-local.

    Raises:
        ApiError: the host is not allowed, the download fails, or it is too large.
    """
    begin = time.monotonic()
    current = checked_url(url, allowed)
    for _ in range(MAX_REDIRECTS + 1):
        address = public_address(current, allowed)
        with _requested(current, address) as response:
            if response.status in (301, 302, 303, 307, 308):
                location = urljoin(current.geturl(), response.headers.get("Location", ""))
                current = _redirected(current, location, allowed)
                continue
            if response.status != 200:
                raise _failed(f"the host answered with status {response.status}")
            _write(response, target, max_bytes, deadline=begin + TOTAL_SECONDS)
            return
    raise _failed(f"more than {MAX_REDIRECTS} redirects")


def checked_url(url: str, allowed: Sequence[str]) -> SplitResult:
    """Returns the parts of a URL whose host is allowed.

    Raises:
        ApiError: it is not.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise _failed("the URL is invalid") from None
    if parts.username or parts.password or not host:
        raise _failed("the URL must have a host and no user")
    default = {"http": 80, "https": 443}[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    names = [f"{named}:{port or default}"] + ([named] if port in (None, default) else [])
    if not {*names} & {entry.lower() for entry in allowed}:
        raise ApiError(
            403,
            f"this server does not download from {host[:100]!r}; upload the video with POST "
            "/v1/files, or start the server with --allow-domains",
            param="messages",
            code="domain_not_allowed",
        )
    return parts


def public_address(parts: SplitResult, allowed: Sequence[str]) -> str:
    """Resolves a host and returns its first address.

    Raises:
        ApiError: one of its addresses is not public.
    """
    host = (parts.hostname or "").rstrip(".")
    with contextlib.suppress(ValueError):
        literal = ipaddress.ip_address(host)
        # The operator wrote this address into the list.
        if not (literal.is_link_local or literal.is_multicast or literal.is_unspecified):
            return host
        raise _private()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise _failed(f"the host {host[:100]!r} cannot be resolved") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise _private()
    return addresses[0]


def is_public(address: str) -> bool:
    """Returns True for an address of the public internet, also behind an IPv6 form of IPv4."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast


@contextlib.contextmanager
def _requested(parts: SplitResult, address: str) -> Iterator[http.client.HTTPResponse]:
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    try:
        # Connected by hand, so that no second resolution can return another address.
        sock = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
        connection.sock = sock
        if parts.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "video/*, image/*", "User-Agent": "xcomp-jax"}
        connection.request("GET", path, headers=headers)
        yield connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(f"the download failed ({type(error).__name__})") from None
    finally:
        connection.close()


def _redirected(current: SplitResult, location: str, allowed: Sequence[str]) -> SplitResult:
    target = urlsplit(location)
    if (target.scheme, target.netloc) != (current.scheme, current.netloc):
        raise _failed(f"a redirect leads to another host or scheme ({target.scheme[:10]!r})")
    return checked_url(location, allowed)


def _write(
    response: http.client.HTTPResponse, target: Path, max_bytes: int, *, deadline: float
) -> None:
    size = 0
    with target.open("wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise ApiError(413, f"the download is larger than {max_bytes:,} bytes, the limit")
            if time.monotonic() > deadline:
                raise _failed(f"it takes longer than {TOTAL_SECONDS:g} s")
            file.write(chunk)


def _failed(reason: str) -> ApiError:
    return ApiError(400, f"the URL cannot be read: {reason}", param="messages", code="invalid_url")


def _private() -> ApiError:
    return ApiError(
        403,
        "the host has an address that is not public; the server does not connect to it",
        param="messages",
        code="address_not_allowed",
    )
