"""Where a checkpoint is: a local folder, or a repository of the hub at one fixed commit."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.files import COMPANIONS

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")

# Nothing else is ever fetched: no code, no pickles.
_WANTED = ("config.json", "*.safetensors", "*.safetensors.index.json", *COMPANIONS)


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder to read and what to call it: `name` as it was asked for, `revision` a hub commit."""

    folder: Path
    name: str
    revision: str | None = None


def find_source(name: str, revision: str | None = None) -> Source:
    """Resolves a local folder or a hub id; the hub's files come from its cache where they can.

    Raises:
        ConversionError: neither; a hub id without a commit; not cached and the hub out of reach.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise ConversionError(name, [f"--revision {revision} goes with a hub id, not a folder"])
        return Source(folder, name)
    if folder.exists():
        raise ConversionError(name, ["is a file: give the folder it lies in"])
    if not _HUB_ID.fullmatch(name):
        raise ConversionError(name, ["no such folder, and not a hub id (owner/name) either"])
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ConversionError(
            name,
            [
                f"no such folder here; as a hub id it needs --revision with a full commit (40 hex "
                f"digits), got {revision!r}: a branch or tag may point elsewhere tomorrow"
            ],
        )
    return Source(_download(name, revision), name, revision)


def _download(repository: str, revision: str) -> Path:
    # Imported here: local folders need neither the package nor its start-up time.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(_WANTED)))
    except LocalEntryNotFoundError as error:
        problem = (
            f"commit {revision} is not in the local hub cache and the hub is out of reach: "
            "download it where there is a connection, or give a local folder"
        )
        raise ConversionError(repository, [problem]) from error
    except GatedRepoError as error:
        raise ConversionError(repository, ["gated: log in to the hub first"]) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        problem = f"no such repository or commit {revision} on the hub: {error}"
        raise ConversionError(repository, [problem]) from error
