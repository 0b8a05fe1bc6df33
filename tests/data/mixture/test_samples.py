"""Reading a mixture: which samples are taken, in which order, and how each is looked at."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from xcomp_jax.config import ConfigError, MixtureConfig
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.data.mixture.samples import (
    MixtureError,
    choose,
    load_mixture,
    read_sets,
    strategy_slice,
)

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]


def test_a_shuffled_set_is_in_the_order_of_the_original() -> None:
    """By hand from Python's shuffle: the first with seed 12345, whatever was shuffled before."""
    random.seed(1)
    assert choose(list(range(10)), "all", 0, 1, None) == [8, 7, 3, 5, 1, 2, 9, 4, 0, 6]
    assert choose(list(range(10)), "first2:30%", 0, 1, None) == [5, 1, 2]
    assert choose(list(range(10)), "end:3", 0, 1, None) == [4, 0, 6]


def test_the_second_shuffle_comes_before_the_part_is_cut() -> None:
    tenth = choose(list(range(400)), "first2:10%", 0, 1, None)
    whole = choose(list(range(400)), "first2:10%", 0, 1, 42)
    quarter = choose(list(range(400)), "first2:10%", 0, 0.25, 42)
    assert len(quarter) == 10
    assert quarter == whole[:10]
    assert sorted(whole) == sorted(tenth)
    assert set(quarter) != set(tenth[:10]), "else the order of the steps would not show"
    parts = [choose(list(range(401)), "all", a / 4, (a + 1) / 4, 42) for a in range(4)]
    together = [entry for part in parts for entry in part]
    assert sorted(together) == list(range(401)), "nothing twice, nothing left out"


@pytest.mark.parametrize(
    ("strategy", "total", "first", "stop"),
    [
        ("all", 7, 0, 7),
        ("first:3", 7, 0, 3),
        ("first2:3", 7, 3, 6),
        ("first3:3", 7, 6, 7),
        ("first6:3", 7, 7, 7),
        ("first:2.5%", 1001, 0, 26),
        ("first2:10%", 7, 1, 2),
        ("end:10%", 21, 18, 21),
    ],
)
def test_strategies(strategy: str, total: int, first: int, stop: int) -> None:
    assert list(range(total))[strategy_slice(strategy, total)] == list(range(first, stop))


@pytest.mark.parametrize(
    "strategy", ["random:5", "first", "first:0", "last:3", "first:x%", "end:-1"]
)
def test_a_strategy_that_is_not_known_is_refused(strategy: str) -> None:
    with pytest.raises(MixtureError, match="known are all, first:N") as caught:
        strategy_slice(strategy, 10)
    assert ("random choice" in str(caught.value)) == (strategy == "random:5")


def write(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> MixtureConfig:
    (folder / "set.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    entry = {"json_path": "set.jsonl", **fields}
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": [entry]}))
    return MixtureConfig(path=str(folder / "mixture.yaml"), root=str(folder))


def test_only_samples_of_exactly_one_image_or_video_are_kept(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "one", "video": "a.mp4", "conversations": TURNS},
        {"id": "none", "conversations": TURNS},
        {"id": "list", "video": ["a.mp4"], "conversations": TURNS},
        {"id": "both", "video": "a.mp4", "image": "b.png", "conversations": TURNS},
        {"id": "null", "video": "c.mp4", "image": None, "conversations": TURNS},
        {"video": "d.mp4", "conversations": [TURNS[1], *TURNS], "start": 1, "end": "2.5"},
    ]
    mixture = load_mixture(write(tmp_path, rows, data_root="films", weight=2))
    found = {sample.id: sample for sample in mixture.samples}
    place = [sample.id for sample in mixture.samples].index
    unnamed = next(name for name in found if name not in ("one", "null"))
    assert set(found) == {"one", "null", unnamed}
    assert unnamed == str(place(unnamed)), "without an id, its place among the samples"
    assert found["one"].media == Media(path="films/a.mp4", kind="video")
    assert found[unnamed].media == Media(path="films/d.mp4", kind="video", start=1.0, end=2.5)
    assert found[unnamed].conversations == tuple(TURNS), "a reply before any question goes"
    assert mixture.sets[0].weight == 2


def test_who_reads_a_video(tmp_path: Path) -> None:
    """The set's reader counts before the entry's; in a mixed set paths stay as they are."""
    rows = [
        {"video": "a", "video_read_type": "gif", "conversations": TURNS},
        {"image": "b.png", "conversations": TURNS},
    ]
    read = {
        media_type: sorted(
            (one.media.path, one.media.kind)
            for one in load_mixture(
                write(tmp_path, rows[: 2 if media_type == "mix" else 1], data_root="d", **fields)
            ).samples
        )
        for media_type, fields in {
            "video": {"video_read_type": "img"},
            "": {},
            "mix": {"media_type": "mix", "video_read_type": "img"},
        }.items()
    }
    assert read["video"] == [("d/a", "img")]
    assert read[""] == [("d/a", "gif")]
    assert read["mix"] == [("a", "gif"), ("b.png", "image")]
    for fields, why in (({}, "as its first entry is one"), ({"media_type": "video"}, "by its med")):
        with pytest.raises(MixtureError, match=f"in a set of videos, {why}.*media_type: mix"):
            load_mixture(write(tmp_path, rows, data_root="d", **fields))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mixture.yaml"
    for content, said in (
        ("datasets: [", "is not yaml"),
        ("sets: []", "must hold a list `datasets`"),
        ("datasets: [{data_root: a}]", "set 0: needs texts and a json_path"),
        ("datasets: [{json_path: a.json, weight: 0}]", "weight=0 must be a finite number above 0"),
        ("datasets: [{json_path: a.json, weight: .inf}]", "weight=inf must be a finite number"),
        (f"datasets: [{{json_path: a.json, weight: 1{'0' * 400}}}]", "must be a finite number"),
        ("datasets: [{json_path: a.json, when: 2024-99-01}]", "is not yaml: month must be"),
        (f"datasets: 1{'0' * 5000}", "is not yaml: Exceeds the limit"),
        (f"datasets: {'[' * 5000}", "is not yaml: maximum recursion"),
        ("datasets: [{json_path: a.json, video_read_type: mp3}]", "video_read_type='mp3'"),
    ):
        path.write_text(content)
        with pytest.raises(MixtureError, match=f"mixture.yaml.*{said}"):
            read_sets(path)
    with pytest.raises(MixtureError, match=r"nowhere\.yaml cannot be read"):
        read_sets(tmp_path / "nowhere.yaml")
    config = write(tmp_path, [{"video": "a", "conversations": TURNS}])
    for line in ('{"video": "x", ', f'{{"id": 1{"0" * 5000}}}', "[" * 100_000):
        (tmp_path / "set.jsonl").write_text(f'{{"video": "a"}}\n\n{{}}\n{{}}\n{line}\n{{}}\n')
        with pytest.raises(MixtureError, match=r"set\.jsonl, line 5: not JSON in itself"):
            load_mixture(config)
    (tmp_path / "set.jsonl").unlink()
    with pytest.raises(MixtureError, match=r"json_path begins at the folder"):
        load_mixture(config)
    with pytest.raises(ConfigError, match=r"start=0\.5 and end=0\.25"):
        MixtureConfig(start=0.5, end=0.25)
