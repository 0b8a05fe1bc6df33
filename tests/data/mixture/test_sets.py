"""Reading mixture files: errors name the file, the place and the problem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xcomp_jax.config import ConfigError, MixtureConfig
from xcomp_jax.data.mixture.sets import MixtureError, read_entries, read_sets


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("datasets: [", "is not yaml"),
        ("sets: []", "must hold a list `datasets`"),
        ("datasets: [{data_root: a}]", "set 0: needs a json_path"),
        ("datasets: [a.json]", "set 0: must have a json_path, got 'a.json'"),
        ("datasets: [{json_path: a.json, data_root: 5}]", "data_root=5 must be a text; quote it"),
        (
            "datasets: [{json_path: a.json, sampling_stategy: 'first:1'}]",
            "set 0: unknown key 'sampling_stategy' .did you mean 'sampling_strategy'",
        ),
        ("datasets: [{json_path: a.json}]\nweight: 2", "unknown key 'weight' beside `datasets`"),
        ("datasets: [{json_path: a.json, sampling_strategy: }]", "sampling_strategy is empty"),
        (
            "datasets:\n  - json_path: a.json\n    weight: 1\n    weight: 2",
            "is not yaml: the key 'weight' occurs twice, in line 2",
        ),
        ("datasets: [{json_path: a.json, weight: 0}]", "weight=0 must be a finite number above 0"),
        ("datasets: [{json_path: a.json, weight: .inf}]", "weight=inf must be a finite number"),
        (f"datasets: [{{json_path: a.json, weight: 1{'0' * 400}}}]", "must be a finite number"),
        ("datasets: [{json_path: a.json, when: 2024-99-01}]", "is not yaml: month must be"),
        ("datasets:\n- json_path: a\x7f", r"the character '\\x7f' is not allowed, in line 2"),
        (f"datasets: 1{'0' * 5000}", "is not yaml: Exceeds the limit"),
        (f"datasets: {'[' * 5000}", "is not yaml: maximum recursion"),
        ("datasets: [{json_path: a.json, video_read_type: mp3}]", "video_read_type='mp3' must"),
    ],
    ids=range(17),
)
def test_read_sets_invalid_yaml_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "mixture.yaml"
    path.write_text(content)
    with pytest.raises(MixtureError, match=f"mixture.yaml.*{reason}"):
        read_sets(path)


def test_read_sets_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match=r"nowhere\.yaml' cannot be read"):
        read_sets(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "line", ['{"video": "x", ', f'{{"id": 1{"0" * 5000}}}', "[" * 100_000], ids=range(3)
)
def test_read_entries_invalid_line_is_numbered(tmp_path: Path, line: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(f'{{"video": "a"}}\n\n{{}}\n{{}}\n{line}\n{{}}\n')
    with pytest.raises(MixtureError, match=r"set\.jsonl, line 5: invalid JSON"):
        read_entries(path)


def test_read_entries_missing_or_invalid_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match=r"json_path is relative to --root \(data\.mixture"):
        read_entries(tmp_path / "set.jsonl")
    with pytest.raises(MixtureError, match=r"set\.csv' must be a \.json or \.jsonl file"):
        read_entries(tmp_path / "set.csv")
    (tmp_path / "set.json").write_text(json.dumps([{}, 1]))
    with pytest.raises(MixtureError, match=r"set\.json, entry 1: must be an object, got 1"):
        read_entries(tmp_path / "set.json")


def test_mixture_config_reversed_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start=0\.5 and end=0\.25"):
        MixtureConfig(start=0.5, end=0.25)
