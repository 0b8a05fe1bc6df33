"""A damaged checkpoint is either converted or refused; in between there is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert import torch_model
from xcomp_jax.checkpoint import load_params
from xcomp_jax.convert.__main__ import main

PLACE = st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=30))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_model.make(tmp_path_factory.mktemp("original"))


def damage(raw: bytes, place: float, length: int, patch: bytes) -> bytes:
    start = int(place * len(raw))
    return raw[:start] + patch + raw[start + length :]


def run(original: Path, place: Path, file: str, raw: bytes) -> tuple[int, list[str]]:
    """Exit code for a copy of the checkpoint with other contents of `file`, and what was left."""
    source = place / "source"
    source.mkdir()
    for path in original.iterdir():
        (source / path.name).write_bytes(raw if path.name == file else path.read_bytes())
    code = main(["from_torch", str(source), str(place / "out")])
    return code, sorted(entry.name for entry in place.iterdir())


def check(original: Path, place: Path, file: str, raw: bytes) -> None:
    code, left = run(original, place, file, raw)
    assert code in (0, 1)
    assert left == (["out", "source"] if code == 0 else ["source"])
    if code == 0:
        load_params(place / "out")


@settings(max_examples=40, deadline=None)
@given(change=PLACE)
def test_damaged_weights(
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
def test_strange_configuration(
    tmp_path_factory: pytest.TempPathFactory, original: Path, changes: dict
) -> None:
    raw = json.dumps({**torch_model.CONFIG, **changes}).encode()
    check(original, tmp_path_factory.mktemp("fuzz"), "config.json", raw)


@settings(max_examples=20, deadline=None)
@given(raw=st.binary(max_size=60))
def test_configuration_that_is_not_json(
    tmp_path_factory: pytest.TempPathFactory, original: Path, raw: bytes
) -> None:
    check(original, tmp_path_factory.mktemp("fuzz"), "config.json", raw)


def test_the_check_accepts_the_undamaged_checkpoint(original: Path, tmp_path: Path) -> None:
    """Control: the refusals above are not refusals of everything."""
    raw = (original / "model.safetensors").read_bytes()
    assert run(original, tmp_path, "model.safetensors", raw) == (0, ["out", "source"])
