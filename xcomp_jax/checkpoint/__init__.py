"""Reads and writes checkpoints: a folder with configuration, parameters, and tokenizer.

    DIR/config.json    {"format": "xcomp_jax", "version": 1, "model": {...}, "source": {...},
                        "sha256": {path: digest of an array's bytes},
                        "files": {file below params/: checksum}}
    DIR/params/        Orbax pytree of the nested parameter tree
    DIR/.xcomp_jax.json    the command that wrote the folder, and its files
    DIR/README.md, tokenizer files, generation_config.json, ...    optional

Parameters are plain nested dicts of arrays, the parameters of `xcomp_jax.models.xcomp`.
"""

from xcomp_jax.checkpoint.draft import check_free, new_folder
from xcomp_jax.checkpoint.ownership import FROM_TORCH, SAVE, TO_TORCH, TUNE, Writer
from xcomp_jax.checkpoint.read import CheckpointReader, load_params
from xcomp_jax.checkpoint.stream import LazyArray
from xcomp_jax.checkpoint.tree import CheckpointError, param_shapes
from xcomp_jax.checkpoint.write import save_params, write_checkpoint

__all__ = [
    "FROM_TORCH",
    "SAVE",
    "TO_TORCH",
    "TUNE",
    "CheckpointError",
    "CheckpointReader",
    "LazyArray",
    "Writer",
    "check_free",
    "load_params",
    "new_folder",
    "param_shapes",
    "save_params",
    "write_checkpoint",
]
