"""Identifiers of files and videos."""

from __future__ import annotations

import hashlib
import re
import secrets

from xcomp_jax.serving.errors import ApiError

_ID = re.compile(r"[a-z]+-[0-9a-f]{24}")


def random_id(kind: str) -> str:
    """Returns a new identifier that cannot be guessed, such as "file-0a1b..."."""
    return f"{kind}-{secrets.token_hex(12)}"


def content_id(kind: str, *parts: object) -> str:
    """Returns the identifier of equal parts."""
    digest = hashlib.sha256("\0".join(map(repr, parts)).encode("utf-8", "surrogatepass"))
    return f"{kind}-{digest.hexdigest()[:24]}"


def checked_id(kind: str, value: str) -> str:
    """Returns an identifier of the right form, which is safe as a file name.

    Raises:
        ApiError: it has another form.
    """
    if not _ID.fullmatch(value) or not value.startswith(f"{kind}-"):
        raise ApiError(
            404, f"there is no {kind} {value[:80]!r}; ids begin with {kind}-", code="not_found"
        )
    return value
