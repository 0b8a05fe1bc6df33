"""The original's checkpoint into ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xcomp_jax.checkpoint import check_free, new_folder, write_checkpoint
from xcomp_jax.config import CompressionConfig, MeshConfig, ModelConfig
from xcomp_jax.convert.card import jax_card
from xcomp_jax.convert.errors import collect, refuse
from xcomp_jax.convert.files import check_disk, companions, describe_file, missing_companions
from xcomp_jax.convert.hf_config import stored_dtype, to_model_config
from xcomp_jax.convert.hub import find_source
from xcomp_jax.convert.mesh import mesh_shardings
from xcomp_jax.convert.safetensors_read import Tensor
from xcomp_jax.convert.torch_folder import CONFIG, read_json_object, read_weights, weight_files
from xcomp_jax.convert.tree import Shardings, fill_tree, lazy_tree, plan_leaves


def load_torch_checkpoint(
    source: Path,
    *,
    dtype: str | None = None,
    compression: CompressionConfig | None = None,
    shardings: Shardings | None = None,
    overrides: Mapping[str, np.ndarray] | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads a folder with config.json and safetensors into a parameter tree.

    Args:
        source: the folder.
        dtype: `float32`, `float16` or `bfloat16` of the parameters; default what the files hold.
        compression: LP-Comp of the model; default the published one.
        shardings: a jax.sharding.Sharding for all arrays, or a tree of the parameters' structure
            with one each; the result is then jax.Arrays, and each process reads only its slices.
            Default: numpy arrays.
        overrides: values that take the place of tensors of these (original) names, or are added.
        config: used instead of the folder's config.json.
        progress: shows a bar on stderr.

    Returns:
        The model's configuration and the nested tree of its parameters.

    Raises:
        ConversionError: listing everything that is wrong with the checkpoint.
    """
    hf_config, model, tensors = _read_folder(source, config, compression)
    for name, array in (overrides or {}).items():
        tensors[name] = Tensor.from_array(name, np.asarray(array), "overrides")
    model, leaves = plan_leaves(
        source, tensors, model, dtype=dtype, declared=stored_dtype(hf_config)
    )
    return model, fill_tree(source, leaves, shardings, progress=progress)


def convert_from_torch(
    name: str,
    out: Path,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    compression: CompressionConfig | None = None,
    mesh: MeshConfig | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> str:
    """Converts a local folder or a repository of the hub into a checkpoint of ours.

    Args:
        name: folder or hub id.
        out: folder to create.
        revision: commit of the hub repository.
        dtype, compression, progress: see `load_torch_checkpoint`.
        mesh: read onto these devices, each process its own slices, and write from there; every
            process of the run calls this. Default: this process alone, a few rows at a time.
        overwrite: replace a checkpoint at `out`.

    Returns:
        A summary for the user.

    Raises:
        ConversionError, CheckpointError: nothing new is left at `out` then.
    """
    check_free(out, overwrite=overwrite)
    source = find_source(name, revision)
    hf_config, model, tensors = _read_folder(source.folder, None, compression)
    model, leaves = plan_leaves(name, tensors, model, dtype=dtype, declared=stored_dtype(hf_config))
    stored = leaves[0].dtype.name
    size = sum(leaf.nbytes for leaf in leaves)
    check_disk(out, size)
    provenance = {
        "name": source.name,
        "revision": source.revision,
        "dtype": " and ".join(sorted({tensor.dtype for tensor in tensors.values()})),
        "files": [describe_file(path) for path in weight_files(source.folder)],
        "hf_config": dict(hf_config),
    }
    with (
        new_folder(out, overwrite=overwrite) as draft,
        tqdm(total=size, unit="B", unit_scale=True, desc=out.name, disable=not progress) as bar,
    ):
        if mesh is None:
            params = lazy_tree(leaves, bar)
        else:
            params = fill_tree(name, leaves, mesh_shardings(model, mesh), progress=progress)
        write_checkpoint(
            draft,
            model,
            params,
            source=provenance,
            extra_files=companions(source.folder),
            texts={"README.md": jax_card(model, provenance, stored)},
        )
        refuse(name, [problem for leaf in leaves for problem in leaf.problems])
    return _summary(out, len(tensors), stored, missing_companions(source.folder))


def _read_folder(
    folder: Path, config: Mapping[str, Any] | None, compression: CompressionConfig | None
) -> tuple[Mapping[str, Any], ModelConfig, dict[str, Tensor]]:
    """Configuration and tensors; the problems of both are reported together."""
    problems: list[str] = []
    with collect(problems):
        config = read_json_object(folder / CONFIG) if config is None else config
        model = to_model_config(config, compression=compression)
    with collect(problems):
        tensors = read_weights(folder)
    refuse(folder, problems)
    assert config is not None
    return config, model, tensors


def _summary(out: Path, count: int, stored: str, missing: list[str]) -> str:
    text = f"{out}: {count} tensors as {stored}"
    if missing:
        text += f"\nnot in the source, so not in the checkpoint either: {', '.join(missing)}"
    return text
