"""Words of error messages about data: short values, nearest names, other spellings of a path."""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100
_REPR.maxlist = 16


def shown(value: Any) -> str:
    """Returns a `repr` of bounded length; its cost is bounded too, unlike that of `repr`."""
    return _REPR.repr(value)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Returns " (did you mean 'x'?)" for the known name most like `name`, or ""."""
    names = {known_name.lower(): known_name for known_name in known}
    close = difflib.get_close_matches(name.strip().lower(), names, n=1, cutoff=cutoff)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def spelling_hint(path: Path) -> str:
    """Returns a hint if a file exists whose path differs only in its spelling, or "".

    Letter case, slash or backslash, spaces around a name and the Unicode form are compared.
    """
    parts = Path(str(path).replace("\\", "/")).parts
    found = Path(parts[0]) if parts and path.is_absolute() else Path()
    for part in parts[1:] if path.is_absolute() else parts:
        if (found / part).exists():
            found = found / part
            continue
        try:
            names = sorted(entry.name for entry in found.iterdir())
        except OSError:
            return ""
        similar = next((name for name in names if _folded(name) == _folded(part)), None)
        if similar is None:
            return ""
        found = found / similar
    return f" (but {str(found)!r} exists)" if parts and str(found) != str(path) else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()
