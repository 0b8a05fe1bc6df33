"""Keeps the clips that selected frames are cut into, so that questions share them.

Selected frames that are not neighbours form clips that no window has. Questions about one video
often select the same frames, so that most of these clips recur.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xcomp_jax import account
from xcomp_jax.engine.clips import Clip, VideoClips

RECUT_BYTES = 1 << 30
"""Maximum host memory for one video; the clips that were used longest ago are dropped."""


class RecutClips:
    """Visual tokens of one video's clips of frames that are not neighbours."""

    def __init__(self, max_bytes: int = RECUT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._tokens: dict[Clip, np.ndarray] = {}  # the most recently used clips are last
        self._num_bytes = 0

    def tokens(self, clips: VideoClips, requested: Sequence[Clip]) -> np.ndarray:
        """Returns visual tokens [len(requested), T * tokens_per_frame, D] of any clips.

        Args:
            clips: encodes and stores what is not kept here.
        """
        kept = {clip: self._tokens[clip] for clip in requested if clip in self._tokens}
        account.count("clips reused", len(kept))
        missing = [clip for clip in dict.fromkeys(requested) if clip not in kept]
        new = dict(zip(missing, clips.tokens(missing), strict=True)) if missing else {}
        tokens = kept | new
        for clip in tokens:
            if clip in kept or clip != clips.clip_at(clip[0]):
                self._keep(clip, tokens[clip])
        return np.stack([tokens[clip] for clip in requested])

    def _keep(self, clip: Clip, tokens: np.ndarray) -> None:
        previous = self._tokens.pop(clip, None)
        self._num_bytes += tokens.nbytes - (0 if previous is None else previous.nbytes)
        # A copy, because a row of a batch keeps the whole batch in memory.
        self._tokens[clip] = np.array(tokens) if previous is None else previous
        while self._num_bytes > self._max_bytes:
            oldest = next(iter(self._tokens))
            self._num_bytes -= self._tokens.pop(oldest).nbytes
