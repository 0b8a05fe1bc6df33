"""Holds what is computed from a video independently of questions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import Clip, FileFrames, VideoClips
from xcomp_jax.inference.recut_clips import RecutClips
from xcomp_jax.models.decoder_state import LayerGroupCache, WindowCache
from xcomp_jax.selection.windows import Windows
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan


@dataclasses.dataclass
class EncodedVideo:
    """Result of `Session.encode_video`.

    Questions fill its caches, which do not depend on the question.

    name: display name; path: source file, if any.
    plan: sampled frames; clips: their visual tokens.
    selection, windows, num_selected: settings and plan of frame selection; the latter two are None
        if all frames are used.
    prefix_ids: token ids of the text before the video.
    cache: KV cache of all frames; None before the first question that uses them.
    window_caches: window caches by batch of windows, in host memory.
    recut: clips that selected frames were cut into, in host memory.
    """

    name: str
    path: Path | None
    plan: FramePlan
    clips: VideoClips
    selection: SelectionConfig | None
    windows: Windows | None
    num_selected: int | None
    prefix_ids: tuple[int, ...]
    cache: tuple[LayerGroupCache, ...] | None = None
    window_caches: dict[int, tuple[WindowCache, ...]] = dataclasses.field(default_factory=dict)
    recut: RecutClips = dataclasses.field(default_factory=RecutClips)

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        return len(self.plan.indices)

    @property
    def clip_frames(self) -> int:
        """Number of frames of an encoder clip."""
        return len(self.clips.clip_at(0))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about parts of the file that were not read and about damage met so far."""
        source = self.clips.source
        if not isinstance(source, FileFrames):
            return ()
        notes = source.video.notes if isinstance(source.video, VideoInfo) else ()
        return (*notes, str(source.damage)) if source.damage else notes

    def visual_tokens(self, frames: tuple[int, ...] | None) -> np.ndarray:
        """Returns visual tokens [V, D] of the selected frames, or of all.

        Selected frames are cut into new clips, as in the original.
        """
        indices = tuple(range(self.num_frames)) if frames is None else frames
        size = self.clip_frames
        clips: list[Clip] = [indices[i : i + size] for i in range(0, len(indices), size)]
        tokens = self.recut.tokens(self.clips, clips)
        return tokens.reshape(-1, tokens.shape[-1])


def num_bytes(tree: Any) -> int:
    """Returns the total size in bytes of the arrays of a pytree."""
    return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
