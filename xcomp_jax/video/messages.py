"""Formats sentences about a video's duration and frame count.

The model was trained on these exact time messages (docs/reference_behaviour.md#prompts).
"""

from __future__ import annotations

from collections.abc import Sequence


def time_message(duration: float, num_frames: int) -> str:
    """Formats the sentence after the video, with its leading newline and trailing space."""
    return (
        f"\nThe video lasts for {duration:.2f} seconds, "
        f"and {num_frames} frames are uniformly sampled from it. "
    )


def long_time_message(duration: float, num_frames: int, times: Sequence[float]) -> str:
    """Formats the longer sentence of the original's training code, with every frame's second."""
    listed = ", ".join(str(round(time, 1)) for time in times)
    return (
        f"\nThe video lasts for {duration:.2f} seconds, "
        f"and {num_frames} frames are uniformly sampled at {listed} seconds. "
    )


def frame_count(count: int) -> str:
    """Formats "1 frame" or "2 frames"."""
    return f"{count} frame" if count == 1 else f"{count} frames"
