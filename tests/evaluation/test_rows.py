"""Tests of the rows of a run: writing, torn lines, keys, and frames in annotated spans."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from xcomp_jax.evaluation.coverage import covers, even_frames
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.rows import (
    Row,
    RowWriter,
    read_rows_file,
    read_run,
    row_key,
    settings_hash,
)

KEY_PARTS = {
    "benchmark": "mlvu",
    "question_id": "q1",
    "prompt_hash": "p",
    "video_hash": "v",
    "checkpoint_hash": "c",
    "protocol_hash": "s",
}


def row(key: str = "k1", **changes: object) -> Row:
    base = Row(
        key=key,
        benchmark="mlvu",
        id="q1",
        video="a.mp4",
        prompt_hash="p",
        frames=128,
        answer="Ä (B)\n",
        gold="B",
        selected_frames=(1, 5),
        covered={"sampled": True},
        scores={"reference": 1.0},
        seconds=1.5,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_rows_written_and_read_equal(tmp_path: Path) -> None:
    path = tmp_path / "run" / "rows-0.jsonl"
    rows = [row(), row("k2", answer="", selected_frames=None, error="broken")]
    with RowWriter(path) as writer:
        for entry in rows:
            writer.append(entry)
            assert read_rows_file(path)[-1] == entry  # On disk before the next question.
    assert read_run(path.parent) == {entry.key: entry for entry in rows}


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_rows_torn_last_line_skipped_and_replaced(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "rows-0.jsonl"
    with RowWriter(path) as writer:
        writer.append(row())
        whole = path.read_bytes()
        writer.append(row("k2"))
    second = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + second[:kept])
    assert [entry.key for entry in read_rows_file(path)] == ["k1"]
    with RowWriter(path) as writer:
        writer.append(row("k3"))
    assert [entry.key for entry in read_rows_file(path)] == ["k1", "k3"]


def test_read_run_processes_merged_errors_replaced(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows-0.jsonl") as writer:
        writer.append(row("k1", error="disk full"))
        writer.append(row("k2"))
    with RowWriter(tmp_path / "rows-1.jsonl") as writer:
        writer.append(row("k1"))
        writer.append(row("k2", answer="another process came later"))
    rows = read_run(tmp_path)
    assert (rows["k1"].error, rows["k2"].answer) == ("", "Ä (B)\n")


def test_read_run_damaged_or_absent_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no rows\*\.jsonl; pass the --out folder"):
        read_run(tmp_path)
    (tmp_path / "rows-0.jsonl").write_text('{"key": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows-0\.jsonl line 1 is no row of this version"):
        read_run(tmp_path)


def test_row_key_any_content_changed_differs() -> None:
    key = row_key(**KEY_PARTS)
    assert key == row_key(**KEY_PARTS)
    others = {row_key(**KEY_PARTS | {name: "other"}) for name in KEY_PARTS}
    assert len(others | {key}) == len(KEY_PARTS) + 1
    assert settings_hash({"a": 1, "b": {"c": 2}}) == settings_hash({"b": {"c": 2}, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


def test_covers_spans_and_moments() -> None:
    times = [0.0, 2.0, 4.0]
    assert covers(times, ()) is None
    assert covers(times, ((1.5, 2.0),)) is True
    assert covers(times, ((2.5, 3.5), (5.0, 9.0))) is False
    assert covers(times, ((2.9, 2.9),)) is False
    assert covers(times, ((2.9, 2.9),), spacing=2.0) is True
    assert covers(times, ((2.5, 3.5),), spacing=1.0) is False


def test_even_frames_spread_and_bounded() -> None:
    assert even_frames(8, 2) == (2, 6)
    assert even_frames(8, 8) == tuple(range(8))
    assert even_frames(3, 8) == (0, 1, 2)
    frames = even_frames(1024, 256)
    assert len(set(frames)) == 256
    assert (frames[0], frames[-1]) == (2, 1022)
