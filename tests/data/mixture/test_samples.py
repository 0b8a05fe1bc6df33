"""Loading a mixture: the samples that are kept and the media they refer to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.sets import MixtureError

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]


def write(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> MixtureConfig:
    """Writes a mixture of one set with these rows and yaml fields."""
    (folder / "set.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    entry = {"json_path": "set.jsonl", **fields}
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": [entry]}))
    return MixtureConfig(path=str(folder / "mixture.yaml"), root=str(folder))


def test_load_mixture_keeps_samples_of_exactly_one_medium(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "video", "video": "a.mp4", "conversations": TURNS},
        {"id": "text", "conversations": TURNS},
        {"id": "list", "video": ["a.mp4"], "conversations": TURNS},
        {"id": "both", "video": "a.mp4", "image": "b.png", "conversations": TURNS},
        {"id": "null", "video": "c.mp4", "image": None, "conversations": TURNS},
        {"video": "d.mp4", "conversations": [TURNS[1], *TURNS], "start": 1, "end": "2.5"},
    ]
    mixture = load_mixture(write(tmp_path, rows, data_root="films", weight=2))
    samples = {sample.id: sample for sample in mixture.samples}
    unnamed = next(name for name in samples if name not in ("video", "null"))
    assert set(samples) == {"video", "null", unnamed}
    position = [sample.id for sample in mixture.samples].index(unnamed)
    assert unnamed == str(position), "the default id is the position among the samples"
    assert samples["video"].media == Media(path="films/a.mp4", kind="video")
    assert samples[unnamed].media == Media(path="films/d.mp4", kind="video", start=1.0, end=2.5)
    assert samples[unnamed].conversations == tuple(TURNS), "the leading reply is dropped"
    assert mixture.sets[0].weight == 2


def test_load_mixture_set_reader_precedes_the_entry_reader(tmp_path: Path) -> None:
    """In a mixed set the set's reader and data_root do not apply."""
    rows = [
        {"video": "a", "video_read_type": "gif", "conversations": TURNS},
        {"image": "b.png", "conversations": TURNS},
    ]

    def media(num_rows: int, **fields: str) -> list[tuple[str, str]]:
        config = write(tmp_path, rows[:num_rows], data_root="d", **fields)
        samples = load_mixture(config).samples
        return sorted((sample.media.path, sample.media.kind) for sample in samples)

    assert media(1, video_read_type="img") == [("d/a", "img")]
    assert media(1) == [("d/a", "gif")]
    mixed = media(2, media_type="mix", video_read_type="img")
    assert mixed == [("a", "gif"), ("b.png", "image")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "by its first entry"), ({"media_type": "video"}, "by its media_type")],
    ids=["first-entry", "media-type"],
)
def test_load_mixture_image_in_a_video_set_is_bad(
    tmp_path: Path, fields: dict[str, str], reason: str
) -> None:
    rows = [{"video": "a", "conversations": TURNS}, {"image": "b.png", "conversations": TURNS}]
    mixture = load_mixture(write(tmp_path, rows, data_root="d", **fields))
    assert [sample.media.path for sample in mixture.samples] == ["d/a"]
    (bad,) = mixture.bad
    assert re.search(rf"in a set of videos \({reason}\).*media_type: mix", bad.message)


def test_load_mixture_root_applies_whatever_the_first_entry(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"conversations": [{"from": "human", "value": "Hi?"}, TURNS[1]]},
        {"video": ["a", "b"], "conversations": TURNS},
        {"video": "c.mp4", "conversations": TURNS},
    ]
    mixture = load_mixture(write(tmp_path, rows, data_root="films"))
    assert [sample.media.path for sample in mixture.samples] == ["films/c.mp4"]
    assert mixture.left_out == {
        (0, "no image or video"): 1,
        (0, "several images or videos"): 1,
    }


def test_load_mixture_invalid_rows_are_bad_with_their_number(tmp_path: Path) -> None:
    good = {"video": "a.mp4", "conversations": TURNS}
    rows: list[dict[str, Any]] = [
        {**good, "id": "clock", "start": "00:00:01", "end": "01:00:02.5"},
        {**good, "start": "1:30", "end": 100},
        {**good, "start": "soon", "end": 2},
        {**good, "start": 3, "end": 2},
        {**good, "start": float("nan"), "end": 2},
        {**good, "video": 7},
        {**good, "video": " "},
        {**good, "video_read_type": ["img"]},
        {**good, "conversations": "What?"},
        {"vidoe": "a.mp4", "conversations": TURNS},
        {"video_path": "a.mp4", "captions": []},
    ]
    mixture = load_mixture(write(tmp_path, rows))
    (sample,) = mixture.samples
    assert (sample.media.start, sample.media.end) == (1.0, 3602.5)
    messages = {bad.entry: bad.message for bad in mixture.bad}
    assert sorted(messages) == list(range(1, len(rows)))
    assert "start='1:30' and end=100 must be seconds or hh:mm:ss" in messages[1]
    assert "did you mean 'video'?" in messages[9]
    assert "keys ['video_path', 'captions']" in messages[10]


def test_load_mixture_without_samples_says_why(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"video": ["a", "b"], "conversations": TURNS}]
    reason = r"no usable sample .*entries with several images or videos in 'set\.jsonl': 1"
    with pytest.raises(MixtureError, match=reason):
        load_mixture(write(tmp_path, rows))
