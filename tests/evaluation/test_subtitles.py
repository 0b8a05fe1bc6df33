"""Tests of subtitle files in the encodings and shapes that users have."""

from __future__ import annotations

from pathlib import Path

import pytest

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.subtitles import (
    Subtitle,
    plain_text,
    read_longvideobench,
    read_srt,
    seconds_of,
)

TEXT = """1
00:00:01,500 --> 00:00:03,000
Café

2
00:00:02,000 --> 00:01:04,250
<i>Two</i>
lines
"""
EXPECTED = (Subtitle(1.5, 3.0, "Café"), Subtitle(2.0, 64.25, "<i>Two</i>\nlines"))


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("latin-1"),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace(",", ".").encode(),
        ("\n\n" + TEXT.rstrip()).encode(),
        TEXT.replace("\n\n", "\n").encode(),
    ],
    ids=["utf-8", "latin-1", "bom", "utf-16", "crlf", "cr", "dots", "edges", "no-empty-lines"],
)
def test_read_srt_encodings_equal_entries(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(data)
    assert read_srt(path).entries == EXPECTED


def test_read_srt_missing_and_empty_told_apart(tmp_path: Path) -> None:
    assert read_srt(tmp_path / "absent.srt").missing
    for name, text in (("empty", ""), ("times", "1\n00:00:01,000 --> 00:00:02,000\n\n")):
        path = tmp_path / f"{name}.srt"
        path.write_text(text, encoding="utf-8")
        subtitles = read_srt(path)
        assert not subtitles.missing
        assert subtitles.entries == ()


def test_read_srt_damaged_blocks_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(f"garbage\n\n1\n00:00:xx --> 1\nlost\n\n{TEXT}", encoding="utf-8")
    assert read_srt(path).entries == EXPECTED


def test_plain_text_tags_and_breaks_removed() -> None:
    assert plain_text('{\\an8}<font color="white">One</font>\n<b>two</b> 1 < 2') == "One two 1 < 2"


def test_read_longvideobench_both_formats(tmp_path: Path) -> None:
    path = tmp_path / "v_en.json"
    path.write_text(
        '[{"timestamp": [1, 2.5], "text": "a"}, {"timestamp": [3.0, null], "text": "b"}, '
        '{"timestamp": [4.0, 5], "text": "c"}, '
        '{"start": "00:01:00.500", "end": "01:00:00.000", "line": "d"}]',
        encoding="utf-8",
    )
    assert read_longvideobench(path).entries == (
        Subtitle(1.0, 2.5, "a"),
        Subtitle(3.0, None, "b"),
        Subtitle(4.0, None, "c"),  # An integer end is unknown in the published code too.
        Subtitle(60.5, 3600.0, "d"),
    )
    assert read_longvideobench(tmp_path / "absent.json").missing
    path.write_text('[{"text": "a"}]', encoding="utf-8")
    with pytest.raises(DataError, match=r"v_en\.json is not a subtitle file of LongVideoBench"):
        read_longvideobench(path)


def test_seconds_of_hours_and_fraction() -> None:
    assert seconds_of("01:02:03,250") == 3723.25
