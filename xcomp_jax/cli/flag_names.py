"""Names flags instead of fields in messages about a question or a video."""

from __future__ import annotations

import re

FIELD_FLAGS = {
    "num_frames": "--frames",
    "max_new_tokens": "--max-new-tokens",
    "temperature": "--temperature",
    "top_p": "--top-p",
    "select": "--select",
    "repeats": "--repeats",
    "segment_clips": "--segment",
    "segment_stride": "--stride",
    "granularity": "--granularity",
}
"""Maps fields and arguments that a flag sets to the flag."""

_FIELD = re.compile(rf"\b(?:selection\.)?({'|'.join(FIELD_FLAGS)})=")
_LAYERS = re.compile(r"\b(?:selection\.)?layers=\((\d+), (\d+)\)")


def with_flags(message: str) -> str:
    """Replaces `num_frames=7` by `--frames 7`, and so on for every flag of `xcomp ask`."""
    message = _LAYERS.sub(r"--layers \1:\2", message)
    return _FIELD.sub(lambda match: f"{FIELD_FLAGS[match[1]]} ", message)
