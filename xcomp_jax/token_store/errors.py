"""What the user has to mend: a full disk, a folder without permission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TokenStoreError(OSError):
    """A store that cannot be used where it is: one paragraph with path, reason and way out."""


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turns an OSError of the block into a TokenStoreError about the store at `root`."""
    try:
        yield
    except TokenStoreError:
        raise
    except OSError as error:
        raise TokenStoreError(
            f"token store {root}: {error}. What was stored before stays valid. Free some space, or "
            "choose as the store a folder on another disk that you may write to."
        ) from error
