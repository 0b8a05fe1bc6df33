"""Tests writing evidence to a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evidence.examples import evidence, hostile
from xcomp_jax.evidence import check_evidence_path, from_json, to_html, write_evidence
from xcomp_jax.evidence import write as module
from xcomp_jax.terminal.output import describe


def test_write_evidence_suffix_determines_format(tmp_path: Path) -> None:
    write_evidence(evidence(), tmp_path / "answer.json")
    write_evidence(evidence(), str(tmp_path / "answer.HTML"))
    assert from_json((tmp_path / "answer.json").read_text("utf-8")) == evidence()
    assert (tmp_path / "answer.HTML").read_text("utf-8") == to_html(evidence())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answer.HTML", "answer.json"]


def test_write_evidence_hostile_text_is_written(tmp_path: Path) -> None:
    for name in ("answer.json", "answer.html"):
        write_evidence(hostile(), tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("name", ["answer.pdf", "answer", "answer.html.gz", ".html"])
def test_write_evidence_other_suffix_writes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"the suffix is .*use \.json .* or \.html ") as error:
        write_evidence(evidence(), tmp_path / name)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["notes.html", "questions.json"])
def test_evidence_replaces_only_evidence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"questions": ["Who?"]}')
    with pytest.raises(ValueError, match="was not written by `xcomp ask --evidence`"):
        write_evidence(evidence(), path)
    assert path.read_text() == '{"questions": ["Who?"]}'
    path.write_text("")
    for _ in range(2):
        write_evidence(evidence(), path)


def test_check_evidence_path_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder .*missing does not exist"):
        check_evidence_path(tmp_path / "missing" / "answer.html")


def test_check_evidence_path_unusable_name_raises(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match="is a folder; add the name of a file"):
        check_evidence_path(tmp_path / "folder.html")
    longest = tmp_path / f"{'a' * (255 - len('.answer.html.partial') + 1)}{'nswer.html'}"
    write_evidence(evidence(), check_evidence_path(longest))
    with pytest.raises(ValueError, match="the name is 1 bytes too long"):
        check_evidence_path(longest.with_name(f"a{longest.name}"))


def test_write_evidence_to_full_disk_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "answer.html"
    (tmp_path / ".answer.html.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_evidence(evidence(), target)
    assert describe(caught.value) == (
        f"{target}: No space left on device; free some space, or name a folder on another disk"
    )
    assert not list(tmp_path.iterdir())


def test_write_evidence_failure_keeps_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "answer.html"
    write_evidence(evidence(), target)
    old = target.read_text()

    def fail(_: object) -> str:
        raise MemoryError

    monkeypatch.setitem(module.WRITERS, ".html", fail)
    with pytest.raises(MemoryError):
        write_evidence(evidence(), target)
    assert target.read_text() == old
