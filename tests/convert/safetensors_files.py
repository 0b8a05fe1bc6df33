"""Valid and invalid safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np


def sample_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "f32": rng.standard_normal((2, 3)).astype(np.float32),
        "f16": rng.standard_normal((5,)).astype(np.float16),
        "bf16": rng.standard_normal((3, 1, 2)).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 4), np.float32),
    }


def write_file(path: Path, header: Any, data: bytes) -> Path:
    """Writes a file with any header (bytes or JSON) and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def header_entry(**changes: Any) -> dict[str, Any]:
    """Returns the header entry of a float32 tensor of shape [2, 3], with changes."""
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}
