"""Our checkpoint into the original's layout, so that its PyTorch code can load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xcomp_jax.checkpoint import CheckpointReader, check_free, new_folder
from xcomp_jax.convert.card import torch_card
from xcomp_jax.convert.dtypes import FLOATS, float_dtype
from xcomp_jax.convert.either import JaxCheckpoint
from xcomp_jax.convert.errors import ConversionError, refuse
from xcomp_jax.convert.files import check_disk, companions, missing_companions
from xcomp_jax.convert.hf_config import to_hf_config
from xcomp_jax.convert.plan import non_finite_problem
from xcomp_jax.convert.safetensors_write import Declared, SafetensorsWriter
from xcomp_jax.convert.torch_folder import CONFIG, INDEX, SINGLE

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
        dtype: of the written tensors; default as stored.
        max_shard_bytes: a file gets no further tensor when it would exceed this.
        overwrite: replace a checkpoint at `out`.
        progress: shows a bar on stderr.

    Returns:
        A summary for the user.

    Raises:
        ConversionError, CheckpointError: nothing new is left at `out` then.
    """
    check_free(out, overwrite=overwrite)
    reader = CheckpointReader(checkpoint)
    stored = _choose_dtype(reader, dtype)
    config = to_hf_config(reader.model, stored=stored, base=reader.source.get("hf_config"))
    source = JaxCheckpoint(reader)
    declared = [Declared(name, stored, shape) for name, shape in source.shapes.items()]
    check_disk(out, sum(tensor.nbytes for tensor in declared))
    shards = _shards(declared, max_shard_bytes)
    problems: list[str] = []
    with new_folder(out, overwrite=overwrite) as draft:
        bar = tqdm(total=len(declared), desc="writing", unit="tensor", disable=not progress)
        files = [
            _write_shard(draft / name, part, source, problems, bar) for name, part in shards.items()
        ]
        bar.close()
        refuse(checkpoint, problems)
        if len(shards) > 1:
            _write_json(draft / INDEX, _index(shards))
        _write_json(draft / CONFIG, config)
        for path in companions(checkpoint):
            (draft / path.name).write_bytes(path.read_bytes())
        card = torch_card(reader.model, reader.source, stored, files)
        (draft / "README.md").write_text(card, encoding="utf-8")
    text = f"{out}: {len(declared)} tensors as {stored} in {len(shards)} file(s)"
    missing = missing_companions(checkpoint)
    return text + (f"\nnot in the checkpoint: {', '.join(missing)}" if missing else "")


def _choose_dtype(reader: CheckpointReader, dtype: str | None) -> str:
    if dtype is not None:
        return float_dtype(dtype).name
    found = sorted({stored.name for stored in reader.dtypes.values()})
    if len(found) > 1 or found[0] not in FLOATS:
        raise ConversionError(
            str(reader.folder),
            [f"wrong dtype: the arrays are {found}; choose one of {sorted(FLOATS)} with --dtype"],
        )
    return found[0]


def _shards(declared: Sequence[Declared], max_bytes: int) -> dict[str, list[Declared]]:
    """File name -> its tensors, in the given order, named as the hub's tools expect."""
    parts: list[list[Declared]] = [[]]
    for tensor in declared:
        size = sum(other.nbytes for other in parts[-1])
        if parts[-1] and size + tensor.nbytes > max_bytes:
            parts.append([])
        parts[-1].append(tensor)
    if len(parts) == 1:
        return {SINGLE: parts[0]}
    return {
        f"model-{i:05d}-of-{len(parts):05d}.safetensors": part for i, part in enumerate(parts, 1)
    }


def _write_shard(
    path: Path,
    declared: list[Declared],
    source: JaxCheckpoint,
    problems: list[str],
    bar: tqdm[Any],
) -> dict[str, Any]:
    with SafetensorsWriter(path, declared) as writer:
        for tensor in declared:
            values = source.read(tensor.name)
            if not writer.write(tensor.name, values):
                problems.append(non_finite_problem(tensor.name, values, tensor.dtype))
            bar.update()
    return writer.description


def _index(shards: Mapping[str, Sequence[Declared]]) -> dict[str, Any]:
    total = sum(tensor.nbytes for part in shards.values() for tensor in part)
    weight_map = {tensor.name: name for name, part in shards.items() for tensor in part}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
