"""Reads a LLaVA-style manifest: a JSON list of conversations, each about one video."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from xcomp_jax.text.prompts import VIDEO_MARK


class ManifestError(ValueError):
    """Raised for an invalid manifest; the message names the file, the entry and the error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """One manifest entry; `kind` and `options` extend the LLaVA format and may be empty."""

    id: str
    video: str
    conversations: tuple[dict[str, str], ...]
    kind: str = ""
    options: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """Text of the first human turn, without the video placeholder."""
        return self.conversations[0]["value"].replace(VIDEO_MARK, "").strip()

    @property
    def answer(self) -> str:
        """Reply to the first human turn."""
        return self.conversations[1]["value"]


def load_manifest(path: Path) -> tuple[ManifestRow, ...]:
    """Reads all rows in file order.

    Raises:
        ManifestError: the file is not a JSON list, an entry has no video, or turns do not alternate
            between human and gpt.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ManifestError(f"{path} must be a JSON list of at least one entry")
    return tuple(_parse(entry, f"{path}, entry {i}", i) for i, entry in enumerate(entries))


def _parse(entry: Any, where: str, number: int) -> ManifestRow:
    if not isinstance(entry, dict) or not isinstance(entry.get("video"), str):
        raise ManifestError(f"{where}: needs a 'video' path, got {entry!r:.200}")
    turns = entry.get("conversations")
    if not isinstance(turns, list):
        raise ManifestError(f"{where}: needs a list of 'conversations', got {turns!r:.200}")
    # As in the original, a reply before the first question is dropped.
    if turns and isinstance(turns[0], dict) and turns[0].get("from") == "gpt":
        turns = turns[1:]
    speakers = [turn.get("from") if isinstance(turn, dict) else None for turn in turns]
    if not turns or speakers != ["human", "gpt"] * (len(turns) // 2):
        raise ManifestError(f"{where}: turns must alternate between human and gpt, got {speakers}")
    if not all(isinstance(turn.get("value"), str) for turn in turns):
        raise ManifestError(f"{where}: every turn needs a text 'value'")
    return ManifestRow(
        id=str(entry.get("id", number)),
        video=entry["video"],
        conversations=tuple({"from": turn["from"], "value": turn["value"]} for turn in turns),
        kind=str(entry.get("kind") or ""),
        options=tuple(map(str, entry.get("options") or ())),
    )
