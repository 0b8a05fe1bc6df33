"""Canonical JSON, and JSON with a checksum."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Encodes equal values as equal text: sorted keys, no white space, ASCII; ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(value: Any) -> str:
    """Encodes canonical JSON, preceded by a line with its sha256."""
    text = canonical_json(value)
    return f"{_sha256(text)}\n{text}"


def unseal(text: str) -> Any:
    """Decodes the text of `seal`; ValueError if the checksum does not match."""
    checksum, _, content = text.partition("\n")
    if not checksum_matches(checksum, content):
        raise ValueError("the checksum in the first line does not match the content")
    return json.loads(content)


def checksum_matches(checksum: str, content: str) -> bool:
    """Returns True if `checksum` is the sha256 of `content`."""
    return checksum == _sha256(content)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
