"""Keys: one digest for equal fields, another for any other; what cannot be is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.token_store.made import made_key
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
def test_the_digest_does_not_depend_on_field_order_or_on_the_way_through_json(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    key = StoreKey.make(**fields)
    shuffled = dict(data.draw(st.permutations(list(fields.items()))))
    shuffled["frame_indices"] = np.asarray(shuffled["frame_indices"])
    assert StoreKey.make(**shuffled).digest == key.digest
    in_other_order = dict(data.draw(st.permutations(list(key.to_dict().items()))))
    assert StoreKey.from_json(json.dumps(in_other_order)) == key
    assert StoreKey.from_json(json.dumps(in_other_order)).digest == key.digest


@given(fields=FIELDS, others=FIELDS, data=st.data())
def test_every_field_counts(
    fields: dict[str, Any], others: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = {**fields, name: others[name]}
    same = changed[name] == fields[name]
    assert (StoreKey.make(**changed).digest == StoreKey.make(**fields).digest) == same


def test_digests_stay_as_they_are_between_versions() -> None:
    """A changed digest orphans every store there is: raise FORMAT_VERSION knowingly instead."""
    assert made_key().digest == "f11b892ad2e1c63e7063e20e354aa5f0e908200fe9c0a1fb982a096c48f9ae15"


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
def test_a_field_that_cannot_be_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        made_key(**change)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', "null"])
def test_json_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        StoreKey.from_json(text)


def test_a_key_of_another_format_is_refused() -> None:
    fields = made_key().to_dict()
    assert StoreKey.from_json(json.dumps(fields)) == made_key()
    with pytest.raises(ValueError, match="format"):
        StoreKey.from_json(json.dumps({**fields, "format": 2}))


def test_keys_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        made_key().width = 3  # type: ignore[misc]
