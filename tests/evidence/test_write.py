"""Evidence as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evidence.examples import evidence, hostile
from xcomp_jax.evidence import check_evidence_path, from_json, to_html, write_evidence
from xcomp_jax.evidence import write as module


def test_the_suffix_decides(tmp_path: Path) -> None:
    write_evidence(evidence(), tmp_path / "answer.json")
    write_evidence(evidence(), str(tmp_path / "answer.HTML"))
    assert from_json((tmp_path / "answer.json").read_text("utf-8")) == evidence()
    assert (tmp_path / "answer.HTML").read_text("utf-8") == to_html(evidence())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answer.HTML", "answer.json"]


def test_any_text_can_be_written(tmp_path: Path) -> None:
    for name in ("answer.json", "answer.html"):
        write_evidence(hostile(), tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("name", ["answer.pdf", "answer", "answer.html.gz", ".html"])
def test_other_suffixes_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.json .*\.html .*Change the ending") as caught:
        write_evidence(evidence(), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*missing"):
        check_evidence_path(tmp_path / "missing" / "answer.html")


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "answer.html"
    place.write_text("old")

    def fail(_: object) -> str:
        raise MemoryError

    monkeypatch.setitem(module.WRITERS, ".html", fail)
    with pytest.raises(MemoryError):
        write_evidence(evidence(), place)
    assert place.read_text() == "old"
