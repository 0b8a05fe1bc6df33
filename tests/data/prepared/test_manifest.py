"""Reading manifests: errors name the file, the entry and the problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from xcomp_jax.data.prepared.manifest import ManifestError, load_manifest


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "at least one entry"),
        ('[{"id": 1}]', "entry 0: needs a 'video'"),
        ('[{"video": "a.mp4", "conversations": [{"from": "gpt", "value": "x"}]}]', "alternate"),
        ('[{"video": "a.mp4", "conversations": "x"}]', "needs a list of 'conversations'"),
    ],
)
def test_load_manifest_invalid_file_is_refused(tmp_path: Path, entries: str, reason: str) -> None:
    (tmp_path / "m.json").write_text(entries)
    with pytest.raises(ManifestError, match=reason):
        load_manifest(tmp_path / "m.json")
