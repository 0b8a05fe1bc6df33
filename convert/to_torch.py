"""Export of an XComp-JAX checkpoint in the layout that the PyTorch code loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xcomp_jax.checkpoint import TO_TORCH, CheckpointReader, check_free, new_folder
from xcomp_jax.convert.card import torch_card
from xcomp_jax.convert.config_export import to_hf_config
from xcomp_jax.convert.errors import ConversionError, raise_problems
from xcomp_jax.convert.folder import CONFIG, INDEX, JaxCheckpoint
from xcomp_jax.convert.tensors import FLOATS, float_dtype, non_finite_problem
from xcomp_jax.convert.write import (
    SafetensorsWriter,
    TensorSpec,
    check_disk,
    companions,
    missing_companions,
    plan_shards,
    shard_index,
    write_json,
)
from xcomp_jax.terminal.progress import ProgressBar

DEFAULT_SHARD_BYTES = 5_000_000_000


def convert_to_torch(
    checkpoint: Path,
    out: Path,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    overwrite: bool = False,
    progress: bool = False,
) -> str:
    """Writes safetensors, config.json and tokenizer files.

    Args:
        checkpoint: folder written by `save_params`.
        out: folder to create.
        dtype: of the written tensors; default: as stored.
        max_shard_bytes: size limit of a file, exceeded only by a single larger tensor.
        overwrite: replaces a folder that this function wrote.
        progress: shows a bar on stderr.

    Returns:
        A summary for the user.

    Raises:
        ConversionError, CheckpointError: `out` is unchanged.
    """
    check_free(out, TO_TORCH, overwrite=overwrite, sources=[checkpoint])
    reader = CheckpointReader(checkpoint)
    stored = _stored_dtype(reader, dtype)
    config = to_hf_config(reader.model, stored=stored, base=reader.source.get("hf_config"))
    source = JaxCheckpoint(reader)
    specs = [TensorSpec(name, stored, shape) for name, shape in source.shapes.items()]
    check_disk(out, sum(spec.nbytes for spec in specs))
    shards = plan_shards(specs, max_shard_bytes)
    problems: list[str] = []
    with new_folder(out, TO_TORCH, overwrite=overwrite, sources=[checkpoint]) as draft:
        bar = ProgressBar(total=len(specs), desc="writing", unit="tensor", disable=not progress)
        files = [
            _write_shard(draft / name, part, source, problems, bar) for name, part in shards.items()
        ]
        bar.close()
        raise_problems(checkpoint, problems)
        if len(shards) > 1:
            write_json(draft / INDEX, shard_index(shards))
        write_json(draft / CONFIG, config)
        for path in companions(checkpoint):
            (draft / path.name).write_bytes(path.read_bytes())
        card = torch_card(reader.model, reader.source, stored, files)
        (draft / "README.md").write_text(card, encoding="utf-8")
    summary = f"{out}: {len(specs)} tensors as {stored} in {len(shards)} file(s)"
    return summary + missing_companions(checkpoint)


def _stored_dtype(reader: CheckpointReader, dtype: str | None) -> str:
    if dtype is not None:
        return float_dtype(dtype).name
    stored = sorted({dtype.name for dtype in reader.dtypes.values()})
    if len(stored) > 1 or stored[0] not in FLOATS:
        problem = (
            f"wrong dtype: parameters are {stored}; choose one of {sorted(FLOATS)} with --dtype"
        )
        raise ConversionError(str(reader.folder), [problem])
    return stored[0]


def _write_shard(
    path: Path,
    specs: list[TensorSpec],
    source: JaxCheckpoint,
    problems: list[str],
    bar: ProgressBar,
) -> dict[str, Any]:
    with SafetensorsWriter(path, specs) as writer:
        for spec in specs:
            values = source.read(spec.name)
            if not writer.write(spec.name, values):
                problems.append(non_finite_problem(spec.name, values, spec.dtype))
            bar.update()
    return writer.description
