"""Tests of the errors for damaged small files."""

from __future__ import annotations

from pathlib import Path

import pytest

from xcomp_jax.experiment import load_experiment
from xcomp_jax.files import TextError, read_json, read_text, write_json
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.tune import tune

SMOKE = Path(__file__).parents[1] / "configs" / "smoke.py"


def test_json_round_trip_equal(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, None]}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("config.json", "use another --workdir"),
        ("elapsed.json", "delete the file; it will be written again"),
        ("summary.json", "delete the file; it will be written again"),
    ],
)
@pytest.mark.parametrize("content", [b"", b'{"seconds": ', b"\xff\xfe"])
def test_tune_damaged_workdir_file_named(
    tmp_path: Path, name: str, remedy: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged .*{remedy}"):
        tune(load_experiment(SMOKE, []), tmp_path)


def test_read_metrics_damaged_line_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for damage in (b"no json", b"\xff"):
        path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step"')
        with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2 .* remove that"):
            read_metrics(path)
    path.write_text('{"step": 1}\n{"step"')
    assert read_metrics(path) == [{"step": 1}]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
def test_read_text_mark_and_line_ends_are_removed(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(mark + "Grün?\r\nWho?\rWhen?\n".encode())
    assert read_text(path) == "Grün?\nWho?\nWhen?\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Who?\n".encode("utf-16"), "byte-order mark of UTF-16"),
        ("Who?\n".encode("utf-16-be"), "holds zero bytes"),
        (b"\x00\x01binary", "holds zero bytes"),
        ("Who?\nGrün?\n".encode("latin-1"), "byte 0xfc in line 2"),
    ],
    ids=["utf-16", "utf-16-no-mark", "binary", "latin-1"],
)
def test_read_text_other_encoding_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(TextError, match=rf"notes\.txt is not UTF-8 text \(.*{reason}.*save it as"):
        read_text(path)
