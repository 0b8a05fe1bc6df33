"""Fuzzing of the conversion: a damaged checkpoint is converted or rejected completely."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert import torch_model
from tests.convert.conftest import entries
from xcomp_jax.checkpoint import load_params
from xcomp_jax.cli.main import main

CHANGE = st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=30))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_model.make(tmp_path_factory.mktemp("original"))


def damage(raw: bytes, position: float, length: int, patch: bytes) -> bytes:
    start = int(position * len(raw))
    return raw[:start] + patch + raw[start + length :]


def run(original: Path, folder: Path, file: str, raw: bytes) -> tuple[int, list[str]]:
    """Converts a copy with other contents of `file`; returns exit code and remaining entries."""
    source = folder / "source"
    source.mkdir()
    for path in original.iterdir():
        (source / path.name).write_bytes(raw if path.name == file else path.read_bytes())
    code = main(["convert", "from-torch", str(source), str(folder / "out")])
    return code, entries(folder)


def check(original: Path, folder: Path, file: str, raw: bytes) -> None:
    code, names = run(original, folder, file, raw)
    assert code in (0, 2)
    assert names == (["out", "source"] if code == 0 else ["source"])
    if code == 0:
        load_params(folder / "out")


@settings(max_examples=40, deadline=None)
@given(change=CHANGE)
def test_damaged_weights_leave_nothing_partial(
    tmp_path_factory: pytest.TempPathFactory, original: Path, change: tuple[float, int, bytes]
) -> None:
    raw = damage((original / "model.safetensors").read_bytes(), *change)
    check(original, tmp_path_factory.mktemp("fuzz"), "model.safetensors", raw)


VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from([*torch_model.CONFIG, "rope_scaling", "rope_parameters", "dtype"]),
        VALUE,
        min_size=1,
        max_size=3,
    ),
)
def test_fuzzed_config_leaves_nothing_partial(
    tmp_path_factory: pytest.TempPathFactory, original: Path, changes: dict
) -> None:
    raw = json.dumps({**torch_model.CONFIG, **changes}).encode()
    check(original, tmp_path_factory.mktemp("fuzz"), "config.json", raw)


@settings(max_examples=20, deadline=None)
@given(raw=st.binary(max_size=60))
def test_config_of_random_bytes_is_rejected(
    tmp_path_factory: pytest.TempPathFactory, original: Path, raw: bytes
) -> None:
    check(original, tmp_path_factory.mktemp("fuzz"), "config.json", raw)


def test_undamaged_checkpoint_is_converted(original: Path, tmp_path: Path) -> None:
    """Control: the checks above do not reject every checkpoint."""
    raw = (original / "model.safetensors").read_bytes()
    assert run(original, tmp_path, "model.safetensors", raw) == (0, ["out", "source"])
