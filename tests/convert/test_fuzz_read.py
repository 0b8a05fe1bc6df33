"""Fuzzing of the safetensors reader: a file is read completely or rejected with a message."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.convert.safetensors_files import header_entry, sample_tensors, write_file
from xcomp_jax.convert.read import SafetensorsError, _Entry, read_safetensors


def check_read_or_rejected(path: Path) -> None:
    """Reads a whole file; the only accepted error is SafetensorsError with a message."""
    rejection = None
    tensors = {}
    try:
        tensors = read_safetensors(path)
    except SafetensorsError as error:
        rejection = error
    if rejection is not None:
        assert rejection.problems
        str(rejection).encode()
    for tensor in tensors.values():
        if tensor.values is not None:
            assert tensor.values.shape == tensor.shape
            assert len(tensor.values.tobytes()) == tensor.values.nbytes


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(raw=st.binary(max_size=200))
def test_fuzzed_bytes_are_read_or_rejected(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    check_read_or_rejected(path)


SIZES = st.one_of(st.integers(0, 8), st.integers(), st.just(1 << 63), st.floats(), st.none())
FIELDS = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(["F32", "F16", "BF16", "I64", "F4"]), st.text()),
        "shape": st.one_of(st.lists(SIZES, max_size=4), SIZES),
        "data_offsets": st.one_of(st.lists(SIZES, max_size=3), st.tuples(SIZES, SIZES)),
    }
)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


@FUZZ
@given(
    header=st.dictionaries(st.text(max_size=4), st.one_of(FIELDS, JSON), max_size=4),
    data=st.binary(max_size=64),
)
def test_fuzzed_header_is_read_or_rejected(
    tmp_path: Path, header: dict[str, Any], data: bytes
) -> None:
    check_read_or_rejected(write_file(tmp_path / "x.safetensors", header, data))


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draws a change of a file: bytes are replaced, removed or added at any position."""
    position, length = draw(st.floats(0, 1)), draw(st.integers(0, 12))
    patch = draw(st.binary(max_size=12))

    def change(raw: bytes) -> bytes:
        start = math.floor(position * len(raw))
        return raw[:start] + patch + raw[start + length :]

    return change


@FUZZ
@given(changes=st.lists(mutations(), min_size=1, max_size=3))
def test_fuzzed_file_is_read_or_rejected(
    tmp_path: Path, changes: list[Callable[[bytes], bytes]]
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(sample_tensors(), path)
    raw = path.read_bytes()
    for change in changes:
        raw = change(raw)
    path.write_bytes(raw)
    check_read_or_rejected(path)


def test_fuzz_check_detects_unchecked_offsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: `check_read_or_rejected` fails for a reader that does not check offsets."""
    monkeypatch.setattr("xcomp_jax.convert.read._check_entry", _unchecked_entry)
    path = write_file(
        tmp_path / "x.safetensors", {"w": header_entry(data_offsets=[0, 99])}, b"\0" * 3
    )
    with pytest.raises((TypeError, ValueError, AssertionError)) as caught:
        check_read_or_rejected(path)
    assert not isinstance(caught.value, SafetensorsError)


def _unchecked_entry(name: str, fields: dict[str, Any], data_bytes: int) -> Any:
    return _Entry(name, fields["dtype"], tuple(fields["shape"]), 0, data_bytes)
