"""Tests that any mutation of a media file is read right, stated as damage, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.video.mutations import check_mutations


def test_reader_few_mutations_right_or_refused(clips: dict[str, Path], tmp_path: Path) -> None:
    outcomes = check_mutations(clips, tmp_path, range(40))
    assert outcomes.total() == 40
    assert min(outcomes["as shown"], outcomes["damage stated"], outcomes["refused"]) >= 3


@pytest.mark.slow
def test_reader_2400_mutations_right_or_refused(clips: dict[str, Path], tmp_path: Path) -> None:
    outcomes = check_mutations(clips, tmp_path, range(2400))
    print(dict(outcomes))
    assert min(outcomes["as shown"], outcomes["damage stated"], outcomes["refused"]) >= 200
