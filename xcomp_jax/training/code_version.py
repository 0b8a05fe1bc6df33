"""Which code made a checkpoint."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import xcomp_jax


def code_version() -> dict[str, str]:
    """Versions of this package and of what decides its arithmetic, and the commit of a clone.

    `commit` ends with `+changes` when files under version control were edited.
    """
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
    versions = {"xcomp_jax": xcomp_jax.__version__}
    versions |= {name: metadata.version(name) for name in packages}
    root = Path(xcomp_jax.__file__).parents[1]
    if (root / ".git").exists():
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
        versions["commit"] = _git(root, "rev-parse", "HEAD") + ("+changes" if changes else "")
    return versions


def _git(root: Path, *arguments: str) -> str:
    """Empty where git is missing or refuses: a version is not worth a run."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
