"""Tests keys: equal fields give equal digests, other fields other digests, invalid ones raise."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.token_store.examples import example_key
from xcomp_jax.token_store import StoreKey

HASHES = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
SIZES = st.integers(1, 10_000)
FIELDS = st.fixed_dictionaries(
    {
        "video_hash": HASHES,
        "encoder_hash": HASHES,
        "frame_indices": st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
        "image_size": SIZES,
        "preprocessing": st.text(min_size=1),
        "clip_frames": SIZES,
        "tokens_per_clip": SIZES,
        "width": SIZES,
        "dtype": st.sampled_from(["float32", "bfloat16"]),
    }
)


@given(fields=FIELDS, data=st.data())
def test_digest_field_order_and_json_do_not_change_it(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    key = StoreKey.make(**fields)
    shuffled = dict(data.draw(st.permutations(list(fields.items()))))
    shuffled["frame_indices"] = np.asarray(shuffled["frame_indices"])
    assert StoreKey.make(**shuffled).digest == key.digest
    reordered = dict(data.draw(st.permutations(list(key.to_dict().items()))))
    assert StoreKey.from_json(json.dumps(reordered)) == key
    assert StoreKey.from_json(json.dumps(reordered)).digest == key.digest


@given(fields=FIELDS, others=FIELDS, data=st.data())
def test_digest_any_changed_field_differs(
    fields: dict[str, Any], others: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = {**fields, name: others[name]}
    same = changed[name] == fields[name]
    assert (StoreKey.make(**changed).digest == StoreKey.make(**fields).digest) == same


def test_digest_is_stable_between_versions() -> None:
    """A changed digest orphans all existing stores; raise FORMAT_VERSION deliberately instead."""
    assert (
        example_key().digest == "f11b892ad2e1c63e7063e20e354aa5f0e908200fe9c0a1fb982a096c48f9ae15"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"video_hash": "short"},
        {"encoder_hash": "E" * 64},
        {"image_size": 0},
        {"clip_frames": 4.0},
        {"width": True},
        {"tokens_per_clip": -1},
        {"preprocessing": ""},
        {"dtype": "float16"},
        {"frame_indices": []},
        {"frame_indices": [0, -1]},
    ],
)
def test_store_key_invalid_field_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        example_key(**change)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', "null"])
def test_from_json_invalid_text_raises(text: str) -> None:
    with pytest.raises(ValueError):
        StoreKey.from_json(text)


def test_from_json_other_format_raises() -> None:
    fields = example_key().to_dict()
    assert StoreKey.from_json(json.dumps(fields)) == example_key()
    with pytest.raises(ValueError, match="format"):
        StoreKey.from_json(json.dumps({**fields, "format": 2}))


def test_store_key_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        example_key().width = 3  # type: ignore[misc]
