"""Conversion of a PyTorch checkpoint into an XComp-JAX checkpoint or a parameter tree."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xcomp_jax.checkpoint import FROM_TORCH, check_free, new_folder, write_checkpoint
from xcomp_jax.checkpoint.lists import short_list
from xcomp_jax.checkpoint.read import PARAMS_FOLDER
from xcomp_jax.config import CompressionConfig, MeshConfig, ModelConfig
from xcomp_jax.convert.card import jax_card
from xcomp_jax.convert.config import stored_dtype, to_model_config, unknown_keys
from xcomp_jax.convert.diagnose_folder import check_folder
from xcomp_jax.convert.errors import ConversionError, collect_problems, raise_problems
from xcomp_jax.convert.fill import Shardings, fill_tree, lazy_tree, mesh_shardings, plan_leaves
from xcomp_jax.convert.folder import read_config, read_weights, weight_files
from xcomp_jax.convert.hub import Source, find_source, is_commit
from xcomp_jax.convert.tensors import Tensor
from xcomp_jax.convert.write import check_disk, companions, describe_file, missing_companions
from xcomp_jax.models.quantized import Quantization
from xcomp_jax.terminal.progress import ProgressBar

logger = logging.getLogger(__name__)


def load_torch_checkpoint(
    source: Path,
    *,
    dtype: str | None = None,
    compression: CompressionConfig | None = None,
    shardings: Shardings | None = None,
    overrides: Mapping[str, np.ndarray] | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool = False,
    quantization: Quantization | None = None,
) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads a folder with config.json and safetensors into a parameter tree.

    Args:
        source: the folder.
        dtype: `float32`, `float16` or `bfloat16` of the parameters; default: as stored.
        compression: LP-Comp of the model; default: the published one.
        shardings: a jax.sharding.Sharding for all parameters, or a tree with one for each. The
            result then holds jax.Arrays, and each process reads only its slices. Default: numpy
            arrays.
        overrides: values by PyTorch name that replace tensors or are added.
        config: replaces the folder's config.json.
        progress: shows a bar on stderr.
        quantization: "int8" quantises the language model's matrices while they are read, one layer
            at a time (`models.quantized`); only without shardings.

    Returns:
        The model configuration and the nested tree of parameters.

    Raises:
        ConversionError: lists all problems of the checkpoint.
    """
    hf_config, model, tensors = _read_folder(source, config, compression)
    for name, array in (overrides or {}).items():
        tensors[name] = Tensor.from_array(name, np.asarray(array), "overrides")
    model, leaves = plan_leaves(
        source, tensors, model, dtype=dtype, declared=stored_dtype(hf_config)
    )
    return model, fill_tree(source, leaves, shardings, progress=progress, quantization=quantization)


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
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> str:
    """Converts a local folder or a hub repository into an XComp-JAX checkpoint.

    Args:
        name: folder or hub id.
        out: folder to create.
        revision: commit, branch or tag of the hub repository; see `find_source`.
        dtype, compression, progress: see `load_torch_checkpoint`.
        mesh: reads onto these devices, each process its own slices, and writes from there; every
            process calls this function. Default: this process alone, a few rows at a time.
        overwrite: replaces a folder that this function wrote.
        endpoint, cache_dir: see `find_source`.

    Returns:
        A summary for the user.

    Raises:
        ConversionError, CheckpointError: `out` is unchanged.
    """
    check_free(out, FROM_TORCH, overwrite=overwrite, sources=[Path(name)])
    if mesh is not None:
        _check_revision(name, revision)
    source = find_source(name, revision, endpoint=endpoint, cache_dir=cache_dir)
    if (source.folder / PARAMS_FOLDER).is_dir():
        raise ConversionError(name, ["is an XComp-JAX checkpoint already; use it as it is"])
    hf_config, model, tensors = _read_folder(source.folder, None, compression)
    model, leaves = plan_leaves(name, tensors, model, dtype=dtype, declared=stored_dtype(hf_config))
    stored, size = leaves[0].dtype.name, sum(leaf.nbytes for leaf in leaves)
    check_disk(out, size)
    provenance = _provenance(source, hf_config, tensors)
    with (
        new_folder(out, FROM_TORCH, overwrite=overwrite, sources=[source.folder]) as draft,
        ProgressBar(
            total=size, unit="B", unit_scale=True, desc=out.name, disable=not progress
        ) as bar,
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
        raise_problems(name, [problem for leaf in leaves for problem in leaf.problems])
    return f"{out}: {len(tensors)} tensors as {stored}" + missing_companions(source.folder)


def _check_revision(name: str, revision: str | None) -> None:
    """Requires a commit from several processes: each would resolve a moving branch on its own."""
    if jax.process_count() > 1 and not Path(name).is_dir() and not is_commit(revision or ""):
        raise ConversionError(
            name,
            [f"revision {revision!r} is not a full commit, which several processes require"],
        )


def _provenance(
    source: Source, hf_config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Describes the origin of a checkpoint for its config.json and model card."""
    return {
        "name": source.name,
        "revision": source.revision,
        "dtype": " and ".join(sorted({tensor.dtype for tensor in tensors.values()})),
        "files": [describe_file(path) for path in weight_files(source.folder)],
        "hf_config": dict(hf_config),
    }


def _read_folder(
    folder: Path, config: Mapping[str, Any] | None, compression: CompressionConfig | None
) -> tuple[Mapping[str, Any], ModelConfig, dict[str, Tensor]]:
    """Reads configuration and tensors; the problems of both are reported together."""
    check_folder(folder)
    problems: list[str] = []
    with collect_problems(problems):
        config = read_config(folder) if config is None else config
        model = to_model_config(config, compression=compression)
    with collect_problems(problems):
        tensors = read_weights(folder)
    raise_problems(folder, problems)
    assert config is not None
    if unknown := unknown_keys(config):
        logger.warning(
            "%s: config.json has keys that are not read: %s. If one of them changes the model's "
            "arithmetic, the results differ from PyTorch",
            folder,
            short_list(unknown),
        )
    return config, model, tensors
