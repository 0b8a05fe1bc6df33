"""Names what a folder or file holds when it is not a checkpoint in PyTorch layout."""

from __future__ import annotations

import re
from pathlib import Path

from xcomp_jax.checkpoint.lists import short_list
from xcomp_jax.checkpoint.read import FORMAT, PARAMS_FOLDER
from xcomp_jax.checkpoint.strict_json import read_json_object
from xcomp_jax.convert.errors import ConversionError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHARD = re.compile(r".*-[0-9]{5}-of-[0-9]{5}\.safetensors")
_HEAD_BYTES = 512
_MERGE = (
    "merge it into its base model first, in PyTorch with `PeftModel.from_pretrained(model, "
    "ADAPTER).merge_and_unload().save_pretrained(OUT)`"
)

ADAPTER_ADVICE = f"holds the weights of an adapter, not of a model; {_MERGE}"


def check_folder(folder: Path) -> None:
    """Raises ConversionError if `folder` is of a kind that can be named in one sentence."""
    if not folder.is_dir():
        raise ConversionError(str(folder), ["no such folder"])
    problem = _cache_problem(folder) or _link_problem(folder) or _kind_problem(folder)
    if problem:
        raise ConversionError(str(folder), [problem])


def missing_weights(folder: Path, single: str, index: str) -> str:
    """Describes a folder that has neither `single` nor `index`."""
    names = sorted(path.name for path in folder.iterdir())
    if (folder / "adapter_config.json").is_file():
        return ADAPTER_ADVICE
    if shards := [name for name in names if _SHARD.fullmatch(name)]:
        return (
            f"has {len(shards)} shards such as {shards[0]}, but no {index}; copy it from where the "
            "shards come from"
        )
    if others := [name for name in names if name.endswith(".safetensors")]:
        return (
            f"contains neither {single} nor {index}; if {short_list(others)} holds all weights, "
            f"rename it to {single}"
        )
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        return (
            f"contains only pickled weights {pickles[:10]}, which are never loaded since a pickle "
            "can run any code; use the safetensors version of this checkpoint"
        )
    if ggufs := [name for name in names if name.endswith(".gguf")]:
        return f"contains GGUF files ({short_list(ggufs)}), which are not read; use safetensors"
    return f"contains neither {single} nor {index}; it has {short_list(names) or 'no files'}"


def foreign_content(head: bytes) -> str:
    """Names the kind of a file that begins with `head`, or "" if it is not a known other kind."""
    text = head[:_HEAD_BYTES].lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
    if text.startswith((b"<!doctype html", b"<html")):
        return (
            "is an HTML page, not the file itself; download it again, from the hub with "
            "`hf download`"
        )
    if head.startswith(b"GGUF"):
        return "is a GGUF file, which is not read; use safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80\x02\x8a\n")):
        return "is a PyTorch pickle, which is never loaded; use the safetensors version"
    if head and not head.strip(b"\0"):
        return "begins with zeros only, as an unfinished download does; download it again"
    return ""


def file_head(path: Path) -> bytes:
    """Reads the beginning of a file, for `foreign_content`."""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _cache_problem(folder: Path) -> str:
    """Returns the snapshot to use of a hub cache entry, or of the cache itself."""
    if (folder / "snapshots").is_dir() and (folder / "refs").is_dir():
        snapshots = sorted(str(path) for path in (folder / "snapshots").iterdir())
        if not snapshots:
            return "is an entry of the hub cache without any snapshot; download the repository"
        return f"is an entry of the hub cache; use a snapshot in it: {short_list(snapshots)}"
    if entries := sorted(folder.glob("models--*/snapshots/*")):
        return f"is a hub cache; use a snapshot in it: {short_list([*map(str, entries)])}"
    return ""


def _link_problem(folder: Path) -> str:
    dangling = [
        path for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists()
    ]
    if not dangling:
        return ""
    return (
        f"has links to files that do not exist: {short_list([path.name for path in dangling])} "
        f"({dangling[0].name} -> {dangling[0].readlink()}); a folder of the hub cache is copied "
        "with `cp -rL`, or downloaded with `hf download NAME --local-dir DIR`"
    )


def _kind_problem(folder: Path) -> str:
    config = folder / "config.json"
    if config.is_file():
        try:
            values = read_json_object(config)
        except ValueError:
            return ""  # Reported where it is read.
        if values.get("format") == FORMAT:
            return f"is an XComp-JAX checkpoint without its folder {PARAMS_FOLDER}/; copy all of it"
        if "stages" in values and (folder / "checkpoint").is_dir():
            return f"is the workdir of a run; use {folder / 'checkpoint'}"
    elif not (folder / "adapter_config.json").is_file():
        inner = sorted(str(path.parent) for path in folder.glob("*/config.json"))
        if inner:
            return f"has no config.json; use the folder that has it: {short_list(inner)}"
    return ""
