"""Reading of untrusted safetensors files.

The whole header is checked before any value is read: its length, its JSON, every dtype, shape and
byte range, and that the ranges fill the file without gap or overlap. Values stay in a read-only
memory map, so that reading a slice costs only the bytes of that slice.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.checkpoint.strict_json import parse_json
from xcomp_jax.convert.diagnose_folder import file_head, foreign_content
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.tensors import FLOATS, Shape, Tensor

_PREFIX = 8
# A 7B model has a header of 0.1 MB. The format allows 100 MB, which would take gigabytes of Python
# objects before the first check.
MAX_HEADER_BYTES = 16 << 20
# Larger than any tensor, and small enough not to overflow in numpy.
_MAX_ELEMENTS = 1 << 56

# Bits of every dtype of the format: a valid file with integers is not reported as broken.
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_FLOATS = {
    "F32": FLOATS["float32"],
    "F16": FLOATS["float16"],
    "BF16": FLOATS["bfloat16"],
}


class SafetensorsError(ConversionError):
    """Raised for a file that is not a well-formed safetensors file."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Returns all tensors of a file as read-only views of the file.

    Raises:
        SafetensorsError: the file is truncated, corrupted or not a safetensors file.
        OSError: the file cannot be opened.
    """
    size = path.stat().st_size
    if size < _PREFIX:
        raise SafetensorsError(
            str(path), [f"truncated: {size} bytes, but the header length alone takes {_PREFIX}"]
        )
    with path.open("rb") as file:
        if kind := foreign_content(file_head(path)):
            raise SafetensorsError(str(path), [kind])
        length = int.from_bytes(file.read(_PREFIX), "little")
        _check_header_length(path, length, size)
        header = _parse_header(path, file.read(length))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = _PREFIX + length
    entries, problems = _check_entries(header, size - start)
    if problems:
        raise SafetensorsError(str(path), problems)
    return {entry.name: entry.tensor(mapped, start, path.name) for entry in entries}


@dataclasses.dataclass(frozen=True)
class _Entry:
    name: str
    dtype: str
    shape: Shape
    begin: int
    end: int

    def tensor(self, mapped: mmap.mmap, start: int, origin: str) -> Tensor:
        dtype = _FLOATS.get(self.dtype)
        if dtype is None:
            return Tensor(self.name, self.dtype, self.shape, None, origin)
        # np.ndarray, since np.frombuffer rejects empty tensors and offsets at the end.
        values: np.ndarray = np.ndarray(self.shape, dtype, mapped, start + self.begin)
        return Tensor(self.name, dtype.name, self.shape, values, origin)


def _check_header_length(path: Path, length: int, size: int) -> None:
    problems = []
    if length > MAX_HEADER_BYTES:
        problems.append(f"header of {length} bytes, but the limit is {MAX_HEADER_BYTES}")
    if length > size - _PREFIX:
        problems.append(
            f"truncated or corrupted: the stated header length is {length} bytes, but only "
            f"{size - _PREFIX} follow"
        )
    if problems:
        raise SafetensorsError(str(path), problems)


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise SafetensorsError(str(path), [f"header is not valid JSON: {error}"]) from None
    if not isinstance(header, dict):
        raise SafetensorsError(
            str(path), [f"header is a JSON {type(header).__name__}, expected an object"]
        )
    header.pop("__metadata__", None)
    return header


def _check_entries(header: dict[str, Any], data_bytes: int) -> tuple[list[_Entry], list[str]]:
    entries, problems = [], []
    for name, fields in header.items():
        entry = _check_entry(name, fields, data_bytes)
        if isinstance(entry, str):
            problems.append(entry)
        else:
            entries.append(entry)
    if not problems:
        problems = _check_coverage(entries, data_bytes)
    return entries, problems


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _check_entry(name: str, fields: Any, data_bytes: int) -> _Entry | str:
    """Returns the entry, or a description of the problem."""
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        return f"{name!r}: expected the fields dtype, shape and data_offsets, got {_short(fields)}"
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        return f"{name!r}: unknown dtype {_short(dtype)}; known: {sorted(_BITS)}"
    if not isinstance(shape, list) or not all(map(_is_size, shape)) or len(shape) > 32:
        return f"{name!r}: shape {_short(shape)} is not a list of at most 32 sizes"
    if math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        return f"{name!r}: shape {_short(shape)} has more than {_MAX_ELEMENTS} elements"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        return f"{name!r}: data_offsets {_short(offsets)} are not a pair of positions"
    begin, end = offsets
    if not begin <= end <= data_bytes:
        return (
            f"{name!r}: data_offsets {_short(offsets)} lie outside the {data_bytes} bytes of data "
            "(truncated or corrupted)"
        )
    bits = math.prod(shape) * _BITS[dtype]
    if bits != 8 * (end - begin):
        return (
            f"{name!r}: {dtype} of shape {_short(shape)} takes {_short(bits)} bits, "
            f"but data_offsets {offsets} hold {8 * (end - begin)}"
        )
    return _Entry(name, dtype, tuple(shape), begin, end)


def _check_coverage(entries: list[_Entry], data_bytes: int) -> list[str]:
    problems, position, previous = [], 0, "the header"
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != position:
            kind = "overlaps" if entry.begin < position else "leaves a gap after"
            problems.append(
                f"{entry.name!r} {kind} {previous}: it begins at {entry.begin}, expected {position}"
            )
        position, previous = max(position, entry.end), repr(entry.name)
    if position != data_bytes:
        problems.append(f"{data_bytes - position} bytes after {previous} belong to no tensor")
    return problems


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
