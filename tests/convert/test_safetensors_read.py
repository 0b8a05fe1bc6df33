"""What a safetensors file can be refused for, and that nothing else comes out of a broken one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from xcomp_jax.convert.safetensors_read import MAX_HEADER_BYTES, SafetensorsError, read_safetensors

Header = dict[str, Any]


def good_values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "f32": rng.standard_normal((2, 3)).astype(np.float32),
        "f16": rng.standard_normal((5,)).astype(np.float16),
        "bf16": rng.standard_normal((3, 1, 2)).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 4), np.float32),
    }


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(good_values(), path, metadata={"format": "pt"})
    return path


def split(path: Path) -> tuple[Header, bytes]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_values_equal_what_the_safetensors_package_wrote(good: Path) -> None:
    tensors = read_safetensors(good)
    expected = good_values()
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        got = tensors[name]
        assert (got.shape, got.dtype) == (values.shape, values.dtype.name)
        assert got.values is not None
        assert got.values.tobytes() == values.tobytes()
        assert not got.values.flags.writeable


def test_other_dtypes_are_known_but_have_no_values(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"ids": np.arange(3), "flags": np.ones(2, bool)}, path)
    tensors = read_safetensors(path)
    assert tensors["ids"].values is None
    assert (tensors["ids"].dtype, tensors["ids"].shape) == ("I64", (3,))


def test_truncated_inside_the_length(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:5])
    with pytest.raises(SafetensorsError, match="truncated: 5 bytes"):
        read_safetensors(good)


def test_truncated_inside_the_header(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:40])
    with pytest.raises(SafetensorsError, match=r"said to have .* bytes, but only 32 follow"):
        read_safetensors(good)


def test_truncated_inside_the_data(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-4])
    with pytest.raises(SafetensorsError, match="lie outside the 42 bytes of data"):
        read_safetensors(good)


def test_header_length_that_lies(good: Path) -> None:
    raw = good.read_bytes()
    shorter = int.from_bytes(raw[:8], "little") - 8
    good.write_bytes(shorter.to_bytes(8, "little") + raw[8:])
    with pytest.raises(SafetensorsError, match="header is not valid JSON"):
        read_safetensors(good)


def test_huge_header(good: Path) -> None:
    raw = good.read_bytes()
    good.write_bytes((1 << 62).to_bytes(8, "little") + raw[8:])
    with pytest.raises(SafetensorsError, match=f"at most {MAX_HEADER_BYTES} are read"):
        read_safetensors(good)
    # A sparse file really is that large; it is refused all the same, before it is read.
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
            r"given twice: \['a'\]",
        ),
    ],
)
def test_header_that_is_no_tensor_table(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(join(tmp_path / "x.safetensors", text, b"\0" * 4))


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (7, "expected the fields dtype, shape and data_offsets, got 7"),
        ({"dtype": "F32", "shape": [2, 3]}, "expected the fields"),
        (entry(extra=1), "expected the fields"),
        (entry(dtype="F33"), "unknown dtype 'F33'"),
        (entry(dtype=["F32"]), r"unknown dtype \['F32'\]"),
        (entry(shape="23"), "shape '23' is not a list"),
        (entry(shape=[2, -3]), r"shape \[2, -3\] is not a list"),
        (entry(shape=[2, 3.0]), "is not a list"),
        (entry(shape=[True, 6]), "is not a list"),
        (entry(shape=[1] * 33), "at most 32 sizes"),
        (entry(shape=[0, 2**40, 2**40]), "more than"),
        (entry(shape=[int("9" * 4000)] * 32), "more than"),
        (entry(shape=[2, 4]), "takes 256 bits, but data_offsets .* hold 192"),
        (entry(dtype="F16"), "takes 96 bits, but data_offsets .* hold 192"),
        (entry(data_offsets=[0, 24, 48]), "are not two positions"),
        (entry(data_offsets=[24, 0]), "lie outside"),
        (entry(data_offsets=[-8, 16]), "are not two positions"),
        (entry(data_offsets=[0, 10**30]), "lie outside the 24 bytes"),
        (entry(data_offsets=[8, 32]), "lie outside the 24 bytes"),
    ],
)
def test_entry_that_cannot_be(tmp_path: Path, fields: Any, message: str) -> None:
    path = tmp_path / "x.safetensors"
    assert read_safetensors(join(path, {"w": entry()}, b"\0" * 24))  # control: the base is fine
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(join(path, {"w": fields}, b"\0" * 24))


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
def test_ranges_that_do_not_fill_the_file(
    tmp_path: Path, places: list[tuple[int, int]], message: str
) -> None:
    header = {
        name: entry(shape=[(end - begin) // 4], data_offsets=[begin, end])
        for name, (begin, end) in zip("ab", places, strict=True)
    }
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(join(tmp_path / "x.safetensors", header, b"\0" * 12))


def test_all_problems_of_a_header_are_listed(tmp_path: Path) -> None:
    header = {"a": entry(dtype="?"), "b": entry(shape=[-1]), "c": 3}
    with pytest.raises(SafetensorsError) as caught:
        read_safetensors(join(tmp_path / "x.safetensors", header, b"\0" * 24))
    assert len(caught.value.problems) == 3


def test_names_are_quoted_so_that_messages_can_be_printed(tmp_path: Path) -> None:
    header = b'{"\\ud800\\u001b[31m": {"dtype": "?", "shape": [], "data_offsets": [0, 0]}}'
    with pytest.raises(SafetensorsError) as caught:
        read_safetensors(join(tmp_path / "x.safetensors", header, b""))
    str(caught.value).encode()
    assert "\x1b" not in str(caught.value)


def reads_or_refuses(path: Path) -> None:
    """Reads everything of a file; the only error allowed is ours, with a message."""
    refused = None
    tensors = {}
    try:
        tensors = read_safetensors(path)
    except SafetensorsError as error:
        refused = error
    if refused is not None:
        assert refused.problems
        str(refused).encode()
    for tensor in tensors.values():
        if tensor.values is not None:
            assert tensor.values.shape == tensor.shape
            assert len(tensor.values.tobytes()) == tensor.values.nbytes


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(raw=st.binary(max_size=200))
def test_fuzz_arbitrary_bytes(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    reads_or_refuses(path)


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
def test_fuzz_headers(tmp_path: Path, header: Header, data: bytes) -> None:
    reads_or_refuses(join(tmp_path / "x.safetensors", header, data))


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of a valid file: bytes replaced, removed or added anywhere."""
    place, length = draw(st.floats(0, 1)), draw(st.integers(0, 12))
    patch = draw(st.binary(max_size=12))

    def change(raw: bytes) -> bytes:
        start = math.floor(place * len(raw))
        return raw[:start] + patch + raw[start + length :]

    return change


@FUZZ
@given(changes=st.lists(mutations(), min_size=1, max_size=3))
def test_fuzz_damaged_files(tmp_path: Path, changes: list[Callable[[bytes], bytes]]) -> None:
    path = tmp_path / "x.safetensors"
    save_file(good_values(), path)
    raw = path.read_bytes()
    for change in changes:
        raw = change(raw)
    path.write_bytes(raw)
    reads_or_refuses(path)


def test_the_fuzz_check_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a reader that trusts offsets is caught by `reads_or_refuses`."""
    monkeypatch.setattr("xcomp_jax.convert.safetensors_read._check_entry", _trusting)
    path = join(tmp_path / "x.safetensors", {"w": entry(data_offsets=[0, 99])}, b"\0" * 3)
    with pytest.raises((TypeError, ValueError, AssertionError)) as caught:
        reads_or_refuses(path)
    assert not isinstance(caught.value, SafetensorsError)


def _trusting(name: str, fields: dict[str, Any], data_bytes: int) -> Any:
    from xcomp_jax.convert.safetensors_read import _Entry

    return _Entry(name, fields["dtype"], tuple(fields["shape"]), 0, data_bytes)
