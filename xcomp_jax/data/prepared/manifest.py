"""Reads a LLaVA-style manifest: conversations, each about one video."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from xcomp_jax.data.entry import EntryError, LeftOutError, entry_medium, entry_turns
from xcomp_jax.data.entry_files import EntryFileError, read_entries
from xcomp_jax.data.messages import shown, spelling_hint
from xcomp_jax.files import TextError
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
    """Reads all rows of a JSON list or JSON lines, in file order; forms as in `data.entry`.

    Raises:
        ManifestError: the file is neither, an entry has no video, or turns do not alternate between
            human and gpt.
    """
    try:
        entries = read_entries(path)
    except OSError as error:
        raise ManifestError(
            f"{str(path)!r} cannot be read ({error.strerror}){spelling_hint(path)}; give a JSON "
            "file of questions about videos"
        ) from error
    except (EntryFileError, TextError) as error:
        raise ManifestError(str(error)) from error
    return tuple(_parse(entry, f"{path}, entry {i}", i) for i, entry in enumerate(entries))


def _parse(entry: dict[str, Any], where: str, number: int) -> ManifestRow:
    try:
        kind, path = entry_medium(entry)
        turns = entry_turns(entry, kind)
    except LeftOutError as error:
        raise ManifestError(f"{where}: has {error}; it needs one 'video' path") from error
    except EntryError as error:
        raise ManifestError(f"{where}: {error}") from error
    if kind != "video":
        raise ManifestError(f"{where}: needs a 'video' path, got the image {shown(path)}")
    speakers = [turn.get("from") for turn in turns]
    if not turns or speakers != ["human", "gpt"] * (len(turns) // 2):
        raise ManifestError(
            f"{where}: turns must alternate between human and gpt, got {shown(speakers)}"
        )
    if not all(isinstance(turn.get("value"), str) for turn in turns):
        raise ManifestError(f"{where}: every turn needs a text 'value'")
    options = entry.get("options") or ()
    if not isinstance(options, list | tuple):
        raise ManifestError(f"{where}: options={shown(options)} must be a list")
    return ManifestRow(
        id=str(entry.get("id", number)),
        video=path,
        conversations=tuple({"from": turn["from"], "value": turn["value"]} for turn in turns),
        kind=str(entry.get("kind") or ""),
        options=tuple(map(str, options)),
    )
