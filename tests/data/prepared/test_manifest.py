"""Reading manifests: errors name the file, the entry and the problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from xcomp_jax.data.prepared.manifest import ManifestError, load_manifest


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("{", r"m\.json, line 1: invalid JSON"),
        ("[]", "at least one entry"),
        ('[{"id": 1}]', "entry 0: neither 'image' nor 'video'; an entry has 'video' or"),
        ('[{"video": ["a", "b"]}]', "entry 0: has several images or videos; it needs one 'video'"),
        ('[{"image": "a.png", "conversations": []}]', "needs a 'video' path, got the image"),
        ('[{"video": "a", "conversations": [{"from": "human"}, {"from": "gpt"}]}]', "text 'value'"),
        ('[{"video": "a.mp4", "conversations": [{"from": "gpt", "value": "x"}]}]', "alternate"),
        ('[{"video": "a.mp4", "conversations": "x"}]', "'conversations' must be a list of"),
    ],
)
def test_load_manifest_invalid_file_is_refused(tmp_path: Path, entries: str, reason: str) -> None:
    (tmp_path / "m.json").write_text(entries)
    with pytest.raises(ManifestError, match=reason):
        load_manifest(tmp_path / "m.json")


def test_load_manifest_lines_of_other_tools_are_read(tmp_path: Path) -> None:
    turns = '[{"role": "user", "content": "<video>Who?"}, {"role": "assistant", "content": "Me"}]'
    path = tmp_path / "m.jsonl"
    path.write_text(f'\ufeff{{"videos": ["a.mp4"], "messages": {turns}}}\n' * 2, encoding="utf-8")
    first, second = load_manifest(path)
    assert (first.id, second.id) == ("0", "1")
    assert (first.video, first.question, first.answer) == ("a.mp4", "Who?", "Me")
    assert first.conversations[0]["value"] == "<image>Who?"


def test_load_manifest_missing_file_names_another_spelling(tmp_path: Path) -> None:
    (tmp_path / "Test.json").touch()
    with pytest.raises(
        ManifestError, match=r"test\.json' cannot be read .*but '.*Test\.json' exists"
    ):
        load_manifest(tmp_path / "test.json")
