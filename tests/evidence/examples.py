"""Example evidence for tests."""

from __future__ import annotations

import io
import math
from typing import Any

from PIL import Image

from xcomp_jax.evidence import Cost, Evidence, Thumbnail

HOSTILE = (
    "<script>document.title='run'</script></title></style><img src=x onerror=alert(1)> "
    "\"double\" 'single' & &amp; --> ]]>\n"
    "\u05de\u05d4 \u05e7\u05d5\u05e8\u05d4 \u05db\u05d0\u05df?\n"  # Hebrew, from right to left
    "\N{RABBIT FACE}\N{ZERO WIDTH JOINER}\N{BUTTERFLY} \x00\x1b\udc80 " + "https://x.example/" * 30
)
"""Text that breaks pages without proper escaping."""


def jpeg(width: int = 160, height: int = 90, shade: int = 120) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 90, 160)).save(file, "JPEG")
    return file.getvalue()


def evidence(**changes: Any) -> Evidence:
    """Creates 64 frames of a minute, 16 selected around the middle, every second with thumbnail."""
    values: dict[str, Any] = {
        "video": "garden.mp4",
        "duration": 64.0,
        "question": "Which animal comes out of the burrow?",
        "answer": "A large grey rabbit.",
        "model": "tiny",
        "frame_times": tuple(float(i) for i in range(64)),
        "frame_scores": tuple(1 / (1 + abs(i - 30)) for i in range(64)),
        "selected_frames": tuple(range(22, 38)),
        "selection": {"select": 16, "repeats": 2, "granularity": "frame", "decay": 0.5},
        "costs": (
            Cost("encode", 1.24, 8, "clips"),
            Cost("reused from the store", None, 6, "clips"),
            Cost("generate", 0.2, 12, "tokens"),
        ),
        "wall_seconds": 1.3,
        "thumbnails": tuple(Thumbnail(i, jpeg(shade=4 * i)) for i in range(22, 38, 2)),
    }
    return Evidence(**(values | changes))


def many_frames() -> Evidence:
    """Creates 8,192 frames of two hours, every second one selected, one with a peak score."""
    return evidence(
        duration=7200.0,
        frame_times=tuple(i * 7200 / 8192 for i in range(8192)),
        frame_scores=tuple(9.0 if i == 5001 else math.sin(i) for i in range(8192)),
        selected_frames=tuple(range(1, 8192, 2)),
        thumbnails=tuple(Thumbnail(i, jpeg()) for i in range(1, 8192, 172)),
    )


def one_frame(**changes: Any) -> Evidence:
    """Creates a single unscored frame of a video of duration 0."""
    values: dict[str, Any] = {
        "duration": 0.0,
        "frame_times": (0.0,),
        "frame_scores": None,
        "selected_frames": (0,),
        "thumbnails": (Thumbnail(0, jpeg(90, 160)),),
    }
    return evidence(**(values | changes))


def hostile() -> Evidence:
    """Creates evidence whose texts break pages by content and by length."""
    return evidence(
        video="clip<b>" + "w" * 300 + ".mp4",
        question=HOSTILE,
        answer="Donaudampfschifffahrt" * 40 + HOSTILE,
        model=HOSTILE,
        selection={HOSTILE: HOSTILE, "x" * 200: "y" * 200},
        costs=(Cost(HOSTILE, 1.0, 10**15, HOSTILE), Cost("z" * 200, 1e9)),
    )
