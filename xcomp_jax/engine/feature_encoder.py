"""Runs the frozen encoder without the projector on every local device."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from xcomp_jax.config import ModelConfig
from xcomp_jax.engine import programs
from xcomp_jax.engine.encoder import CLIPS_PER_DEVICE, ClipEncoder
from xcomp_jax.models.xcomp import XComp


class FeatureEncoder:
    """Encodes clips into merged features; each file runs on one of the local devices.

    Args:
        vision: encoder parameters, copied to every local device.
    """

    def __init__(self, config: ModelConfig, vision: Any) -> None:
        self._model = XComp(config)
        self._vision = [jax.device_put(vision, device) for device in jax.local_devices()]

    def for_file(self, number: int, *, clip_frames: int) -> ClipEncoder:
        """Returns the encoder of one file; safe to call from any thread.

        Args:
            number: index of the file.
            clip_frames: 1 for an image, which is encoded alone, to avoid padding.
        """
        vision = self._vision[number % len(self._vision)]
        program = functools.partial(_encode, self._model, vision)
        return ClipEncoder(program, 1 if clip_frames == 1 else CLIPS_PER_DEVICE)


def _encode(model: XComp, vision: Any, clips: np.ndarray) -> jax.Array:
    return programs.encode_features(model, vision, clips)
