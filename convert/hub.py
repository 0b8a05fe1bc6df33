"""Location of a checkpoint: a local folder, or a commit of a Hugging Face Hub repository."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

from xcomp_jax.checkpoint.read import PARAMS_FOLDER
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.write import COMPANIONS
from xcomp_jax.processes import on_first, require_equal

DEFAULT_BRANCH = "main"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")

# Nothing else is downloaded: no code, no pickles. The last is the layout of XComp-JAX.
_FILE_PATTERNS = (
    *("config.json", "*.safetensors", "*.safetensors.index.json", *COMPANIONS),
    f"{PARAMS_FOLDER}/*",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint folder to read.

    Attributes:
        folder: local folder; for a hub id, the snapshot in the hub cache.
        name: folder or hub id as requested.
        revision: commit of the hub repository; None for a local folder.
    """

    folder: Path
    name: str
    revision: str | None = None


def find_source(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> Source:
    """Locates a checkpoint and downloads it if it is a hub id.

    A branch or tag is resolved to its commit first, which is printed on stderr; every file is then
    downloaded at that commit. A full commit is used as it is, from the local hub cache if possible.
    In a run of several processes, all of them must call this with the same hub id; they get the
    commit that process 0 resolved.

    Args:
        name: local folder, or hub id `owner/name`. A folder takes precedence.
        revision: commit, branch or tag of a hub repository; default: the branch `main`.
        endpoint: URL of the hub; default: `HF_ENDPOINT` or huggingface.co.
        cache_dir: folder of the hub cache; default: the cache of huggingface_hub.

    Raises:
        ConversionError: neither a folder nor a hub id, an unknown repository or revision, or no
            connection to the hub.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            problem = f"is a local folder; revision {revision} only applies to a hub id"
            raise ConversionError(name, [problem])
        return Source(folder, name)
    if folder.exists():
        raise ConversionError(name, ["is a file; use the folder that contains it"])
    if not _HUB_ID.fullmatch(name):
        raise ConversionError(name, ["no such folder, and not a hub id (owner/name)"])
    branch = revision or DEFAULT_BRANCH
    require_equal({"checkpoint": f"{name}@{branch}"})
    commit = revision
    if commit is None or not is_commit(commit):
        # The branch may move between two requests, and all processes must read the same files.
        commit = on_first(lambda: _resolve(name, branch, endpoint, cache_dir))
    return Source(_download(name, commit, endpoint, cache_dir), name, commit)


def is_commit(revision: str) -> bool:
    """Returns True for a full commit id, which always denotes the same files."""
    return _COMMIT.fullmatch(revision) is not None


def _resolve(name: str, revision: str, endpoint: str | None, cache_dir: Path | None) -> str:
    """Returns the commit of a branch or tag and prints it."""
    # Imported here: local folders do not need the package, which takes long to import.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        commit = HfApi(endpoint=endpoint).model_info(name, revision=revision).sha
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        gated = isinstance(error, GatedRepoError)
        raise ConversionError(name, [_access_problem(revision, gated=gated)]) from error
    except (HfHubHTTPError, ValueError) as error:
        problem = f"the hub failed to resolve {revision!r}, try again later ({_first_line(error)})"
        raise ConversionError(name, [problem]) from error
    except (HTTPError, OSError) as error:
        problem = (
            f"no folder of this name, and the hub cannot be reached to resolve {revision!r}. "
            f"Connect to the network, use a local folder, or set the revision to a commit in the "
            f"local hub cache ({_cached_commits(name, cache_dir)})"
        )
        raise ConversionError(name, [problem]) from error
    if commit is None or not is_commit(commit):
        raise ConversionError(name, [f"the hub returned no commit for {revision!r}: {commit!r}"])
    print(f"resolved {name}@{revision} to {commit}", file=sys.stderr)
    return commit


def _download(name: str, commit: str, endpoint: str | None, cache_dir: Path | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(
            name,
            revision=commit,
            allow_patterns=list(_FILE_PATTERNS),
            endpoint=endpoint,
            cache_dir=cache_dir,
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        gated = isinstance(error, GatedRepoError)
        raise ConversionError(name, [_access_problem(commit, gated=gated)]) from error
    except (LocalEntryNotFoundError, HTTPError, OSError) as error:
        # The client reports a repository without access as an error of the cache.
        if isinstance(error.__cause__, RepositoryNotFoundError):
            gated = isinstance(error.__cause__, GatedRepoError)
            raise ConversionError(name, [_access_problem(commit, gated=gated)]) from error
        problem = (
            f"commit {commit} cannot be downloaded and is not in the local hub cache. Connect to "
            f"the network or use a local folder ({type(error).__name__}: {_first_line(error)})"
        )
        raise ConversionError(name, [problem]) from error
    return Path(folder)


def _access_problem(revision: str, *, gated: bool) -> str:
    if gated:
        return "is gated; accept its terms on the hub and run `hf auth login`"
    return (
        f"no such folder, and no such repository or revision {revision!r} on the hub; a private "
        "repository requires `hf auth login`"
    )


def _cached_commits(name: str, cache_dir: Path | None) -> str:
    from huggingface_hub import constants

    repository = Path(cache_dir or constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    commits = sorted(path.name for path in repository.glob("snapshots/*"))
    return f"cached: {', '.join(commits)}" if commits else "which has none of this repository"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
