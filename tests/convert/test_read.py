"""Reading of safetensors files: values of valid files and errors of invalid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.convert.safetensors_files import header_entry, sample_tensors, write_file
from xcomp_jax.convert.read import MAX_HEADER_BYTES, SafetensorsError, read_safetensors


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(sample_tensors(), path, metadata={"format": "pt"})
    return path


def test_values_equal_those_of_safetensors_package(good: Path) -> None:
    tensors = read_safetensors(good)
    expected = sample_tensors()
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        tensor = tensors[name]
        assert (tensor.shape, tensor.dtype) == (values.shape, values.dtype.name)
        assert tensor.values is not None
        assert tensor.values.tobytes() == values.tobytes()
        assert not tensor.values.flags.writeable


def test_integer_tensor_has_no_values(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"ids": np.arange(3), "flags": np.ones(2, bool)}, path)
    tensors = read_safetensors(path)
    assert tensors["ids"].values is None
    assert (tensors["ids"].dtype, tensors["ids"].shape) == ("I64", (3,))


def test_truncated_length_is_rejected(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:5])
    with pytest.raises(SafetensorsError, match="truncated: 5 bytes"):
        read_safetensors(good)


def test_truncated_header_is_rejected(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:40])
    with pytest.raises(
        SafetensorsError, match=r"stated header length is .* bytes, but only 32 follow"
    ):
        read_safetensors(good)


def test_truncated_data_is_rejected(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-4])
    with pytest.raises(SafetensorsError, match="lie outside the 42 bytes of data"):
        read_safetensors(good)


def test_wrong_header_length_is_rejected(good: Path) -> None:
    raw = good.read_bytes()
    shorter = int.from_bytes(raw[:8], "little") - 8
    good.write_bytes(shorter.to_bytes(8, "little") + raw[8:])
    with pytest.raises(SafetensorsError, match="header is not valid JSON"):
        read_safetensors(good)


def test_oversized_header_is_rejected(good: Path) -> None:
    raw = good.read_bytes()
    good.write_bytes((1 << 62).to_bytes(8, "little") + raw[8:])
    with pytest.raises(SafetensorsError, match=f"the limit is {MAX_HEADER_BYTES}"):
        read_safetensors(good)
    # A sparse file has that size, but is rejected before it is read.
    good.write_bytes((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
    with good.open("r+b") as file:
        file.truncate(MAX_HEADER_BYTES + 100)
    with pytest.raises(SafetensorsError, match=f"header of {MAX_HEADER_BYTES + 1} bytes"):
        read_safetensors(good)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"not json", "header is not valid JSON"),
        (b"\xff\xfe", "header is not valid JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "header is a JSON list"),
        (b"3", "header is a JSON int"),
        (b'{"a": ' + b"9" * 5000 + b"}", "header is not valid JSON"),
        (
            b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
            b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
            r"duplicate key 'a' with the values",
        ),
    ],
)
def test_invalid_header_is_rejected(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(write_file(tmp_path / "x.safetensors", text, b"\0" * 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (7, "expected the fields dtype, shape and data_offsets, got 7"),
        ({"dtype": "F32", "shape": [2, 3]}, "expected the fields"),
        (header_entry(extra=1), "expected the fields"),
        (header_entry(dtype="F33"), "unknown dtype 'F33'"),
        (header_entry(dtype=["F32"]), r"unknown dtype \['F32'\]"),
        (header_entry(shape="23"), "shape '23' is not a list"),
        (header_entry(shape=[2, -3]), r"shape \[2, -3\] is not a list"),
        (header_entry(shape=[2, 3.0]), "is not a list"),
        (header_entry(shape=[True, 6]), "is not a list"),
        (header_entry(shape=[1] * 33), "at most 32 sizes"),
        (header_entry(shape=[0, 2**40, 2**40]), "more than"),
        (header_entry(shape=[int("9" * 4000)] * 32), "more than"),
        (header_entry(shape=[2, 4]), "takes 256 bits, but data_offsets .* hold 192"),
        (header_entry(dtype="F16"), "takes 96 bits, but data_offsets .* hold 192"),
        (header_entry(data_offsets=[0, 24, 48]), "are not a pair of positions"),
        (header_entry(data_offsets=[24, 0]), "lie outside"),
        (header_entry(data_offsets=[-8, 16]), "are not a pair of positions"),
        (header_entry(data_offsets=[0, 10**30]), "lie outside the 24 bytes"),
        (header_entry(data_offsets=[8, 32]), "lie outside the 24 bytes"),
    ],
)
def test_invalid_entry_is_rejected(tmp_path: Path, fields: Any, message: str) -> None:
    path = tmp_path / "x.safetensors"
    assert read_safetensors(
        write_file(path, {"w": header_entry()}, b"\0" * 24)
    )  # control: the entry without a change is valid
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(write_file(path, {"w": fields}, b"\0" * 24))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(0, 8), (4, 12)], "'b' overlaps 'a': it begins at 4, expected 8"),
        ([(0, 12), (0, 12)], "'b' overlaps 'a': it begins at 0, expected 12"),
        ([(0, 4), (8, 12)], "'b' leaves a gap after 'a': it begins at 8, expected 4"),
        ([(4, 8), (8, 12)], "'a' leaves a gap after the header"),
        ([(0, 4), (4, 8)], "4 bytes after 'b' belong to no tensor"),
    ],
)
def test_ranges_with_gap_or_overlap_are_rejected(
    tmp_path: Path, places: list[tuple[int, int]], message: str
) -> None:
    header = {
        name: header_entry(shape=[(end - begin) // 4], data_offsets=[begin, end])
        for name, (begin, end) in zip("ab", places, strict=True)
    }
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(write_file(tmp_path / "x.safetensors", header, b"\0" * 12))


def test_all_header_problems_are_listed(tmp_path: Path) -> None:
    header = {"a": header_entry(dtype="?"), "b": header_entry(shape=[-1]), "c": 3}
    with pytest.raises(SafetensorsError) as caught:
        read_safetensors(write_file(tmp_path / "x.safetensors", header, b"\0" * 24))
    assert len(caught.value.problems) == 3


def test_messages_quote_control_characters(tmp_path: Path) -> None:
    header = b'{"\\ud800\\u001b[31m": {"dtype": "?", "shape": [], "data_offsets": [0, 0]}}'
    with pytest.raises(SafetensorsError) as caught:
        read_safetensors(write_file(tmp_path / "x.safetensors", header, b""))
    str(caught.value).encode()
    assert "\x1b" not in str(caught.value)
