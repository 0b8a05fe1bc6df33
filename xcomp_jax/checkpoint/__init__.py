"""Our checkpoints: a folder with config.json, the parameters as an Orbax pytree, and a tokenizer.

    DIR/config.json    {"format": "xcomp_jax", "version": 1, "model": {...}, "source": {...},
                        "sha256": {path: digest of an array's bytes}}
    DIR/params/        Orbax pytree of the nested parameter tree
    DIR/README.md, vocab.json, merges.txt, generation_config.json, ...    as far as they were given

Parameters are plain nested dicts of arrays, as the model of `xcomp_jax.models.xcomp` takes them.
"""

from xcomp_jax.checkpoint.read import CheckpointReader, load_params
from xcomp_jax.checkpoint.stream import LazyArray
from xcomp_jax.checkpoint.tree import CheckpointError, param_shapes
from xcomp_jax.checkpoint.write import check_free, new_folder, save_params, write_checkpoint

__all__ = [
    "CheckpointError",
    "CheckpointReader",
    "LazyArray",
    "check_free",
    "load_params",
    "new_folder",
    "param_shapes",
    "save_params",
    "write_checkpoint",
]
