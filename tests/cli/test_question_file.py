"""Files of questions: with a byte-order mark, in another encoding, with other line ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from xcomp_jax.cli.ask import _questions
from xcomp_jax.cli.main import build_parser, main


def test_questions_file_with_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes("\ufeffWho?\r\n\r\nWhat\u2028now?\n".encode())
    options = build_parser().parse_args(["ask", "a.mp4", "--questions", str(path)])
    assert _questions(options) == ["Who?", "What\u2028now?"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_questions_file_in_another_encoding_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("Wer grüßt?\n", encoding=encoding)
    assert main(["ask", "a.mp4", "--questions", str(path)]) == 2
    assert f"{path} is not UTF-8 text" in capsys.readouterr().err
