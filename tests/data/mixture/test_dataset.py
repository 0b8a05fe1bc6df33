"""Mixture datasets: bucketed batches of scanned files, and samples that cannot be used."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.batches import assert_same
from tests.data.mixture.example_mixture import IMAGE_SIZE, TOKENIZER, conversation, open_example
from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture.scan_table import Table
from xcomp_jax.data.mixture.skipped import BadSamplesError, SkippedLog
from xcomp_jax.data.pipeline import train_batches
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.video.decode import read_frames


def test_train_batches_mixture_rows_match_their_samples(
    config: MixtureConfig, table: Table
) -> None:
    dataset = open_example(config, table)
    assert len(dataset) == 10, "13 samples, 3 of them unusable"
    batches = train_batches(dataset, batch_size=2, seed=0)
    rows: Counter[int] = Counter()
    for _ in range(5):
        batch = next(batches)
        frames, suffix = batch["frames"].shape[1], batch["suffix_ids"].shape[1]
        assert frames in (1, *dataset.frame_limits)
        assert suffix in dataset.suffix_limits
        for slot, row in enumerate(batch["index"]):
            rows[int(row)] += 1
            media, count = dataset.samples[row].media, int(batch["num_frames"][slot])
            assert count == dataset.frames[row]
            assert (batch["frames"][slot, count:] == 0).all()
            text = TOKENIZER.decode(batch["suffix_ids"][slot, : batch["suffix_len"][slot]])
            assert f"{count} frames are uniformly sampled" in text or media.kind == "image"
            assert "lasts for 1.00 seconds" in text or media.start is None
            if media.kind == "img":
                np.testing.assert_array_equal(batch["frames"][slot, 0, 0, 0], (0, 0, 0))
            if media.path.endswith("v1.mp4") and media.start is not None:
                path = Path(config.root) / media.path
                expected = list(read_frames(path, range(4, 12), size=IMAGE_SIZE))
                np.testing.assert_array_equal(batch["frames"][slot, :count], expected)
        assert (batch["suffix_labels"] != IGNORE).any(axis=1).all()
    assert set(rows.values()) == {1}
    assert len(rows) == 10
    kinds = [dataset.samples[row].media.kind for row in rows]
    assert Counter(kinds) == {"video": 4, "image": 4, "img": 1, "gif": 1}


def test_train_batches_mixture_shares_and_resumes_exactly(
    config: MixtureConfig, table: Table
) -> None:
    dataset = open_example(config, table)
    single = train_batches(dataset, batch_size=2, seed=4)
    states, expected = [], []
    for _ in range(9):  # almost two epochs
        states.append(json.dumps(single.get_state()))
        expected.append(next(single))
    shares = [
        train_batches(
            open_example(config, table), batch_size=2, seed=4, process_index=i, process_count=2
        )
        for i in range(2)
    ]
    for batch in expected:
        halves = [next(share) for share in shares]
        joined = {name: np.concatenate([half[name] for half in halves]) for name in batch}
        assert_same(joined, batch)
    resumed = train_batches(dataset, batch_size=2, seed=4)
    next(resumed)
    resumed.set_state(json.loads(states[6]))
    assert_same(next(resumed), expected[6])
    continued = train_batches(dataset, batch_size=2, seed=4, examples_seen=2 * 7)
    assert_same(next(continued), expected[7])
    other_seed = train_batches(dataset, batch_size=2, seed=5)
    order = [next(other_seed)["index"].tolist() for _ in range(5)]
    assert order != [batch["index"].tolist() for batch in expected[:5]]


def test_train_batches_broken_file_leaves_other_rows_unchanged(
    config: MixtureConfig, table: Table, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(config.root, root)
    (root / "media" / "v0.mp4").write_bytes(b"no video")
    log = tmp_path / "skipped.jsonl"
    broken = dataclasses.replace(config, root=str(root), path=str(root / "mixture.yaml"))
    dataset = open_example(broken, table, skipped=log)
    logged = [json.loads(line)["path"] for line in log.read_text().splitlines()]
    assert sorted(logged) == ["media/broken.mp4", "media/none.png", "media/short.mp4"]
    complete_batches, broken_batches = (
        list(itertools.islice(train_batches(opened, batch_size=2, seed=1), 5))
        for opened in (open_example(config, table), dataset)
    )
    num_zero_weights = 0
    for complete, actual in zip(complete_batches, broken_batches, strict=True):
        weight = actual["example_weight"]
        for name in complete:
            np.testing.assert_array_equal(actual[name][weight == 1], complete[name][weight == 1])
        for slot in np.flatnonzero(weight == 0):
            num_zero_weights += 1
            assert dataset.samples[actual["index"][slot]].media.path == "media/v0.mp4"
            assert (actual["frames"][slot] == 0).all()
            assert (actual["suffix_labels"][slot] == IGNORE).all()
            assert actual["num_frames"][slot] == complete["num_frames"][slot]
    assert num_zero_weights == 1
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["path"] == "media/v0.mp4"
    assert "truncated: it has no index" in last["reason"]


def test_mixture_too_many_bad_samples_stop_the_run(
    config: MixtureConfig, table: Table, tmp_path: Path
) -> None:
    with pytest.raises(BadSamplesError, match=r"3 of 13 samples.*max_bad=0\.2 allows"):
        open_example(dataclasses.replace(config, max_bad=0.2), table)
    readable = {key: facts for key, facts in table.items() if not facts.reason}
    with pytest.raises(BadSamplesError, match="not in the table of the scan"):
        open_example(config, dict(itertools.islice(readable.items(), 3)))
    root = tmp_path / "copy"
    shutil.copytree(config.root, root)
    dataset = open_example(dataclasses.replace(config, root=str(root)), table)
    # One bad sample of the first 200 is allowed.
    dataset = dataclasses.replace(dataset, skipped=SkippedLog(None, 0.005))
    shutil.rmtree(root / "media")
    with pytest.raises(BadSamplesError, match=r"(\d) of \1 samples.*no such file"):
        for _ in train_batches(dataset, batch_size=1, seed=0):
            pass


@pytest.mark.parametrize("prompt_as_asked", [False, True])
def test_mixture_malformed_turns_are_logged_once(
    config: MixtureConfig, table: Table, tmp_path: Path, prompt_as_asked: bool
) -> None:
    """The log survives ids with any characters and a restart; the valid sample is kept."""
    question, answer = conversation("What?")
    malformed: dict[str, Any] = {
        "is of role \\['human'\\]": {"from": ["human"], "value": question["value"]},
        'has no text under "value"': {"from": "human", "value": None},
        "no text": {"from": "human", "value": 5},
        "surrogates not allowed": {"from": "human", "value": "<image>\ud800"},
    }
    valid = {"id": "valid", "video": "media/v0.mp4", "conversations": [question, answer]}
    rows = [valid] + [
        {"id": f"{i}\u2028\ud800", "video": "media/v0.mp4", "conversations": [turn, answer]}
        for i, turn in enumerate(malformed.values())
    ]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    path, log = tmp_path / "mixture.yaml", tmp_path / "skipped.jsonl"
    path.write_text(f"datasets: [{{json_path: {tmp_path / 'set.json'}}}]")
    mixture = dataclasses.replace(config, path=str(path), max_bad=1)
    for _ in range(2):  # the second iteration is a restart
        dataset = open_example(mixture, table, skipped=log, prompt_as_asked=prompt_as_asked)
        assert [sample.id for sample in dataset.samples] == ["valid"]
    logged = [json.loads(line) for line in log.read_text().strip().split("\n")]
    assert len(logged) == len(malformed)
    reasons = {row["id"]: row["reason"] for row in logged}
    for row, reason in zip(rows[1:], malformed, strict=True):
        assert re.search(reason, reasons[str(row["id"])])
