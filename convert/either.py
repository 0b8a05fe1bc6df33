"""Either kind of checkpoint as tensors under the original's names.

Both classes have `kind`, `model`, `shapes` and `dtypes` by name (in the order in which reading is
fastest) and `read(name)`, the values in the original's layout.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convert import plan
from convert.errors import ConversionError
from convert.hf_config import to_model_config
from convert.rules import TIED_COPY, rules_for
from convert.torch_folder import CONFIG, read_json_object, read_weights
from xcomp_jax.checkpoint import CheckpointReader
from xcomp_jax.checkpoint.read import FORMAT, PARAMS_FOLDER


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
    """A folder of ours; one array of it is kept in memory."""

    kind = FORMAT

    def __init__(self, reader: CheckpointReader) -> None:
        self._reader = reader
        self.model = self._reader.model
        self._slots = plan.slots(rules_for(self.model), self._reader.shapes)
        self.shapes = {name: slot.shape for name, slot in self._slots.items()}
        self.dtypes = {
            name: self._reader.dtypes[slot.rule.target].name for name, slot in self._slots.items()
        }
        self._path, self._array = "", np.empty(0)

    def read(self, name: str) -> np.ndarray:
        slot = self._slots[name]
        path = slot.rule.target
        if path != self._path:
            self._array = np.empty(0)  # freed before the next one is read
            self._path, self._array = path, self._reader.read(path)
        ours = self._array if slot.block is None else self._array[slot.block]
        return slot.rule.layout.to_source(ours)


def open_checkpoint(folder: Path) -> TorchCheckpoint | JaxCheckpoint:
    """Opens a folder of either kind.

    Raises:
        ConversionError, CheckpointError: it is neither, or broken.
    """
    if (folder / PARAMS_FOLDER).is_dir():
        return JaxCheckpoint(CheckpointReader(folder))
    return TorchCheckpoint(folder)
