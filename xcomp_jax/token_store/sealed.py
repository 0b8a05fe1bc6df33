"""JSON that has one spelling, and JSON that carries its own checksum."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for equal values: keys sorted, no white space, ASCII only, no NaN (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(value: Any) -> str:
    """Canonical JSON behind a line with its sha256."""
    text = canonical_json(value)
    return f"{_sha256(text)}\n{text}"


def unseal(text: str) -> Any:
    """The value that was sealed. Raises ValueError if anything was changed since."""
    checksum, _, content = text.partition("\n")
    if not is_sealed_by(checksum, content):
        raise ValueError("its text does not have the checksum written before it")
    return json.loads(content)


def is_sealed_by(checksum: str, content: str) -> bool:
    return checksum == _sha256(content)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
