"""Identifies the code that wrote a checkpoint."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import xcomp_jax


def code_version() -> dict[str, str]:
    """Returns the versions of this package and its numeric dependencies, and the git commit.

    `commit` is present in a clone only; it ends with `+changes` when tracked files were edited.
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
    """Returns the output of a git command, or "" on failure: a missing commit stops no run."""
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
