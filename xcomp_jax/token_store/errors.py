"""The error for stores that the user must fix: a full disk, a folder without permission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TokenStoreError(OSError):
    """Raised when a store cannot be used where it is.

    The message is one paragraph: path, reason, and what to do.
    """


@contextmanager
def as_store_error(root: Path) -> Iterator[None]:
    """Converts an OSError raised in the block into a TokenStoreError for the store at `root`."""
    try:
        yield
    except TokenStoreError:
        raise
    except OSError as error:
        raise TokenStoreError(
            f"token store {root}: {error}. The clips stored so far stay valid. Free some space, or "
            "use a store in a writable folder on another disk."
        ) from error
