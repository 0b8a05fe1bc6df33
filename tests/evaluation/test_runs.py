"""Tests how a run chooses questions, divides videos and reads its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.evaluation.examples import questions, right_answers, rows
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.grouping import Shard, choose_questions, group_by_video
from xcomp_jax.evaluation.protocol import load_protocol
from xcomp_jax.evaluation.run_folder import (
    RunRecord,
    latest_rows,
    open_run,
    read_record,
    shard_writer,
)

RECORD = RunRecord(
    benchmark="lvbench",
    data="data",
    checkpoint="checkpoints/a",
    checkpoint_hash="a",
    protocol=load_protocol("lvbench"),
    command="xcomp evaluate",
    version="0.1.0",
    devices="1 cpu",
)


@pytest.mark.parametrize("count", [1, 3, 4, 12])
def test_shards_have_every_video_once(count: int) -> None:
    groups = group_by_video(questions())
    assert len(groups) == 10
    parts = [Shard(index, count).of(groups) for index in range(count)]
    found = [group.questions[0].video for part in parts for group in part]
    assert sorted(found) == [f"v{number}" for number in range(10)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "1/0", "1/2/3", "a/b"])
def test_shard_invalid_text_raises(text: str) -> None:
    with pytest.raises(ValueError, match="is not I/N"):
        Shard.parse(text)


def test_choose_questions_by_id_then_limit() -> None:
    found = choose_questions(questions(), limit=2, ids=["q7", "q3", "q5"])
    assert [question.id for question in found] == ["q3", "q5"]
    with pytest.raises(DataError, match="no question has the id 'q99'"):
        choose_questions(questions(), ids=["q99"])


def test_latest_rows_prefer_answers_to_failures() -> None:
    (answered,) = rows(questions(1), right_answers(questions(1)))
    older = dataclasses.replace(answered, key="1", time=1.0)
    newer = dataclasses.replace(answered, key="2", time=2.0)
    failed = dataclasses.replace(answered, key="3", time=3.0, answer="", error="missing")
    for order in ((older, newer, failed), (failed, newer, older)):
        assert latest_rows(order) == [newer]
    assert latest_rows([failed]) == [failed]


def test_open_run_other_checkpoint_or_protocol_raises(tmp_path: Path) -> None:
    open_run(tmp_path, RECORD)
    open_run(tmp_path, dataclasses.replace(RECORD, command="again"))
    assert read_record(tmp_path) == RECORD
    with pytest.raises(DataError, match="checkpoint: checkpoints/a with hash b instead of"):
        open_run(tmp_path, dataclasses.replace(RECORD, checkpoint_hash="b"))
    other = dataclasses.replace(RECORD.protocol, max_new_tokens=1)
    with pytest.raises(DataError, match="max_new_tokens: 1 instead of 16"):
        open_run(tmp_path, dataclasses.replace(RECORD, protocol=other))


def test_shard_writer_refuses_second_process(tmp_path: Path) -> None:
    with (
        shard_writer(tmp_path, Shard()),
        pytest.raises(DataError, match="another process is writing"),
        shard_writer(tmp_path, Shard()),
    ):
        pass
    with shard_writer(tmp_path, Shard()), shard_writer(tmp_path, Shard(1, 2)):
        pass
