"""A watched video: everything that is known of it before any question comes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import VideoClips
from xcomp_jax.models.decoder_state import LayerGroupCache, WindowCache
from xcomp_jax.selection.plan import Windows
from xcomp_jax.video.sampling import FramePlan


@dataclasses.dataclass
class EncodedVideo:
    """What `Session.watch` returns. Filled further as questions are asked; none of it depends on
    one.

    name: shown to people; path: of the file, if there is one; plan: the chosen frames; clips: their
    visual tokens.
    selection, windows, select: how questions choose among the frames; the latter are None where
        all are used.
    prefix: the compressed keys and values of the whole video, of unequal length per stage, where
        all frames are used.
    states: scoring states by batch of windows, in host memory.
    """

    name: str
    path: Path | None
    plan: FramePlan
    clips: VideoClips
    selection: SelectionConfig | None
    windows: Windows | None
    select: int | None
    prefix: tuple[LayerGroupCache, ...] | None = None
    states: dict[int, tuple[WindowCache, ...]] = dataclasses.field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Frames looked at."""
        return len(self.plan.indices)


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree."""
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
