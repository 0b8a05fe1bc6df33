"""Either kind of checkpoint as tensors under the original's names.

Both classes have `kind`, `model`, `shapes` and `dtypes` by name (in the order in which reading is
fastest) and `read(name)`, the values in the original's layout.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from xcomp_jax.checkpoint import CheckpointError, CheckpointReader
from xcomp_jax.checkpoint.read import FORMAT, PARAMS_FOLDER
from xcomp_jax.convert import plan
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.hf_config import to_model_config
from xcomp_jax.convert.rules import TIED_COPY, rules_for
from xcomp_jax.convert.torch_folder import CONFIG, read_json_object, read_weights


class TorchCheckpoint:
    """A folder in the original's layout; a tied head that was saved too is left out when equal."""

    kind = "safetensors"

    def __init__(self, folder: Path) -> None:
        self.model = to_model_config(read_json_object(folder / CONFIG))
        tensors = read_weights(folder)
        copy, original = (tensors.get(name) for name in TIED_COPY)
        if self.model.llm.tie_word_embeddings and copy is not None and original is not None:
            same = copy.values is not None and original.values is not None
            if same and plan.equal_bits(copy.values, original.values):  # type: ignore[arg-type]
                del tensors[copy.name]
        self._tensors = tensors
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}

    def read(self, name: str) -> np.ndarray:
        values = self._tensors[name].values
        if values is None:
            raise ConversionError(name, [f"dtype {self.dtypes[name]} cannot be compared"])
        return values


class JaxCheckpoint:
    """A folder of ours, read block by block.

    Arrays whose tensors are read in the order of `shapes` are also compared with the sha256 they
    were saved with, which finds whole files put in the place of others.
    """

    kind = FORMAT

    def __init__(self, reader: CheckpointReader) -> None:
        self._reader = reader
        self.model = reader.model
        self._slots = plan.slots(rules_for(self.model), reader.shapes)
        self.shapes = {name: slot.shape for name, slot in self._slots.items()}
        self.dtypes = {
            name: reader.dtypes[slot.rule.target].name for name, slot in self._slots.items()
        }
        self._hashed: tuple[str, int] = ("", 0)
        self._sha256 = hashlib.sha256()

    def read(self, name: str) -> np.ndarray:
        slot = self._slots[name]
        path = slot.rule.target
        index = [slice(0, size) for size in self._reader.shapes[path]]
        if slot.block is not None:
            index[0] = slice(slot.block, slot.block + 1)
        values = self._reader.part(path, tuple(index))
        self._check(path, slot.block or 0, values)
        return slot.rule.layout.to_source(values if slot.block is None else values[0])

    def _check(self, path: str, block: int, values: np.ndarray) -> None:
        if block == 0:
            self._hashed, self._sha256 = (path, 0), hashlib.sha256()
        if self._hashed != (path, block):
            return
        self._sha256.update(values.reshape(-1).view(np.uint8).data)
        self._hashed = (path, block + 1)
        saved = self._reader.sha256.get(path)
        whole = block + len(values) == self._reader.shapes[path][0]
        if whole and saved is not None and saved != self._sha256.hexdigest():
            raise CheckpointError(
                f"{self._reader.folder}: {path!r} was changed after it was saved: its sha256 is "
                f"{self._sha256.hexdigest()}, expected {saved}"
            )


def open_checkpoint(folder: Path) -> TorchCheckpoint | JaxCheckpoint:
    """Opens a folder of either kind.

    Raises:
        ConversionError, CheckpointError: it is neither, or broken.
    """
    if (folder / PARAMS_FOLDER).is_dir():
        return JaxCheckpoint(CheckpointReader(folder))
    return TorchCheckpoint(folder)
