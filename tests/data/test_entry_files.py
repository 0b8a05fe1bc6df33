"""Annotation files: the content decides between list and lines; errors name file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xcomp_jax.data.entry_files import EntryFileError, RepeatedKeys, read_entries
from xcomp_jax.data.messages import spelling_hint

ENTRIES = [{"id": "a", "video": "ä.mp4"}, {"id": "b", "video": "b.mp4"}]
LINES = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in ENTRIES)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
def test_read_entries_form_is_that_of_the_content(tmp_path: Path, suffix: str, mark: str) -> None:
    path = tmp_path / f"set.{suffix}"
    for text in (LINES, json.dumps(ENTRIES, indent=1), LINES.replace("\n", f"\r\n\r\n{mark}")):
        path.write_text(mark + text, encoding="utf-8", newline="")
        assert read_entries(path) == ENTRIES


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("set.json", '{"data": []}', r"holds an object with the keys \['data'\]"),
        ("set.json", LINES.split("\n")[0], r"must hold a JSON list of entries"),
        ("set.jsonl", '{\n"id": 1\n}', r"must hold .* one entry per line"),
        ("set.json", '[{"id": 1},\n{"id": 2}\n{"id": 3}]', r"set\.json, line 3: invalid JSON"),
        ("set.json", f"[1{'0' * 5000}]", r"set\.json: invalid JSON: Exceeds the limit"),
        ("set.jsonl", LINES.replace("\n", ""), r"line 1: invalid JSON: Extra data, at column"),
        ("set.jsonl", "\n \n", "must hold a list of at least one entry"),
        ("set.jsonl", "version https://git-lfs.github.com/spec/v1", "line 1: invalid JSON"),
    ],
    ids=range(8),
)
def test_read_entries_other_content_is_refused(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(EntryFileError, match=reason):
        read_entries(path)


def test_read_entries_repeated_key_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text('[{"video": "a", "video": "b"}, {"video": "b"}]')
    repeated, single = read_entries(path)
    assert isinstance(repeated, RepeatedKeys)
    assert not isinstance(single, RepeatedKeys)


@pytest.mark.parametrize("name", ["clip.mp4", "Clip.MP4 ", "sub\\Clip.MP4", "Zu\u0308ge.mp4"])
def test_spelling_hint_names_the_other_spelling(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    for existing in ("Clip.MP4", "sub/Clip.MP4", "Z\u00fcge.mp4"):
        (tmp_path / existing).touch()
    hint = spelling_hint(tmp_path / name)
    assert Path(hint.removeprefix(" (but '").removesuffix("' exists)")).exists()
    assert not spelling_hint(tmp_path / "other.mp4")
