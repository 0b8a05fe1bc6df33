"""Stores the encoder output of a mixture on disk, so that training neither decodes nor encodes.

A clip's entry is the frozen encoder's output after token merging, which has no parameters, and
before the projector's MLP, which is trained: `tokens_per_frame` rows of the encoder's width per
frame.

    ROOT/videos, ROOT/hashes      token store (`token_store`): clips by content
    ROOT/features.json            settings and hash of the encoder
    ROOT/index-<process>.csv      store entry of every image and video (`feature_index`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.checkpoint import CheckpointReader
from xcomp_jax.config import ConfigError, DType, ModelConfig
from xcomp_jax.data.mixture.encoder_hash import encoder_hash_of, encoder_settings, read_vision
from xcomp_jax.data.mixture.feature_index import FeatureIndex
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.files import read_json, write_json
from xcomp_jax.token_store import StoreKey, TokenStore, TokenStoreError, VideoTokens
from xcomp_jax.token_store.errors import as_store_error
from xcomp_jax.token_store.keys import DTYPES
from xcomp_jax.token_store.locks import EXCLUSIVE, locked
from xcomp_jax.token_store.paths import FEATURES_FILE, LOCK_FILE, VIDEOS, read_key
from xcomp_jax.token_store.sealed import canonical_json
from xcomp_jax.video.sampling import FramePlan

PREPROCESSING = "bicubic, ImageNet mean and deviation; merged, not projected"

REMEDY = "run `xcomp encode --mixture` with this store again, which keeps what is stored"


class FeatureStore:
    """The features below `root`, all of one encoder. Threads may share one object.

    `size` in the methods is `Facts.bytes`, so that a replaced file has no features.

    Attributes:
        encoder_hash: `encoder_hash_of` the encoder.
        dtype: of the features.

    Raises:
        ConfigError: the folder holds no features, or those of an encoder other than `model`'s.
    """

    def __init__(self, root: Path, model: ModelConfig) -> None:
        path = root / FEATURES_FILE
        if not path.exists():
            raise ConfigError(
                f"{root} holds no features ({FEATURES_FILE} is missing); fill it with "
                "`xcomp encode --mixture`"
            )
        settings = _read_settings(path)
        _check_settings(root, settings["encoder"], encoder_settings(model))
        self.root = root
        self.encoder_hash: str = settings["encoder_hash"]
        self.dtype: DType = settings["dtype"]
        self.tokens_per_frame = model.projector.tokens_per_frame
        self._vision = model.vision
        self._store = TokenStore(root)
        self._index = FeatureIndex(root)

    @property
    def bytes_per_frame(self) -> int:
        """Number of bytes of the features of one frame."""
        return self.tokens_per_frame * self._vision.width * DTYPES[self.dtype].itemsize

    def require(self, media: Media, plan: FramePlan, size: int) -> None:
        """Raises TokenStoreError unless the index lists the frames of `plan`."""
        self.digest(media, plan, size)

    def read(self, media: Media, plan: FramePlan, size: int) -> np.ndarray:
        """Reads features [F * tokens_per_frame, D_vision] in `dtype`.

        Raises:
            TokenStoreError: some are missing or damaged.
        """
        digest = self.digest(media, plan, size)
        key = read_key(self.root / VIDEOS / digest)
        if key is None:
            raise TokenStoreError(f"{media.path}: {digest} is not in {self.root}; {REMEDY}")
        starts = range(0, key.num_clips, key.clip_frames)
        clips = self._store.video(key).read(starts)
        if len(clips) < len(starts):
            raise TokenStoreError(
                f"{media.path}: {len(starts) - len(clips)} of {len(starts)} clips are missing in "
                f"{self.root}; {REMEDY}"
            )
        return np.concatenate([clips[start] for start in starts])

    def zeros(self, plan: FramePlan) -> np.ndarray:
        """Returns zeros of the shape of `read`."""
        shape = (plan.num_frames * self.tokens_per_frame, self._vision.width)
        return np.zeros(shape, DTYPES[self.dtype])

    def complete(self, media: Media, plan: FramePlan, size: int) -> bool:
        """Returns True if all clips are stored; reads only the headers of the store."""
        digest = self._index.find(media, plan, size)
        key = None if digest is None else read_key(self.root / VIDEOS / digest)
        if key is None:
            return False
        return not self._store.video(key).missing(range(0, key.num_clips, key.clip_frames))

    def clip_cache(self, media: Media, path: Path, plan: FramePlan) -> VideoTokens:
        """Returns the store entry for the clips of a file; reads the file to hash its content."""
        vision = self._vision
        clip = 1 if media.kind == "image" else vision.clip_frames
        key = StoreKey.make(
            video_hash=self._store.hash_video(path),
            frame_indices=plan.indices,
            image_size=vision.image_size,
            preprocessing=PREPROCESSING,
            encoder_hash=self.encoder_hash,
            clip_frames=clip,
            tokens_per_clip=clip * self.tokens_per_frame,
            width=vision.width,
            dtype=self.dtype,
        )
        return self._store.video(key)

    def register(
        self, media: Media, plan: FramePlan, size: int, clip_cache: VideoTokens, process: int
    ) -> None:
        """Lists a complete `clip_cache` in the index file of this process."""
        with as_store_error(self.root):
            self._index.add(media, plan, size, clip_cache.key.digest, process)

    def digest(self, media: Media, plan: FramePlan, size: int) -> str:
        """Returns the digest of the store entry that `read` reads; errors as `require`."""
        digest = self._index.find(media, plan, size)
        if digest is None:
            raise TokenStoreError(
                f"{media.path}: its {plan.num_frames} frames are not in {self.root}; {REMEDY}"
            )
        return digest


def create_features(
    root: Path, model: ModelConfig, encoder_hash: str, dtype: DType
) -> FeatureStore:
    """Opens the store at `root` for writing; creates it if it does not exist.

    Raises:
        ConfigError: it belongs to another encoder or dtype, or is a store of visual tokens.
    """
    path = root / FEATURES_FILE
    settings = {
        "encoder_hash": encoder_hash,
        "dtype": dtype,
        "encoder": encoder_settings(model),
    }
    # One writer at a time, because the partial file of `write_json` has a fixed name.
    with as_store_error(root):
        root.mkdir(parents=True, exist_ok=True)
    with as_store_error(root), locked(root / LOCK_FILE, EXCLUSIVE):
        if not path.exists():
            if (root / VIDEOS).exists():
                raise ConfigError(
                    f"{root} holds visual tokens of videos, which may be evicted; use another "
                    "--store for features"
                )
            write_json(path, {**settings, "sha256": _checksum(settings)})
    stored = _read_settings(path)
    _check_settings(root, stored, json.loads(json.dumps(settings)))
    return FeatureStore(root, model)


def check_features(root: Path, checkpoint: Path, model: ModelConfig) -> None:
    """Raises ConfigError unless the features below `root` come from the encoder of `checkpoint`.

    Args:
        model: configuration of the run that trains on the features.
    """
    store = FeatureStore(root, model)
    vision = read_vision(CheckpointReader(checkpoint), store.dtype)
    encoder_hash = encoder_hash_of(vision, model)
    if encoder_hash != store.encoder_hash:
        raise ConfigError(
            f"{root} holds features of another encoder than the one in {checkpoint}: the store has "
            f"parameter hash {store.encoder_hash[:12]}, the checkpoint {encoder_hash[:12]}. Fill "
            f"another store with `xcomp encode --mixture ... --checkpoint {checkpoint}`, or start "
            "from the checkpoint of this store"
        )


def _read_settings(path: Path) -> dict[str, Any]:
    """Reads the settings of a store; those of earlier versions have no checksum."""
    remedy = "restore it, or fill another store with `xcomp encode --mixture`"
    settings = read_json(path, remedy=remedy)
    is_complete = isinstance(settings, dict) and settings.keys() >= {
        "encoder_hash",
        "dtype",
        "encoder",
    }
    checksum = settings.pop("sha256", None) if is_complete else ""
    if not is_complete or (checksum is not None and checksum != _checksum(settings)):
        raise ConfigError(f"{path} is damaged: {remedy}")
    return settings


def _checksum(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()


def _check_settings(root: Path, stored: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if stored.get(name) != value:
            raise ConfigError(
                f"{root} holds features of another encoder: its {name} is {stored.get(name)}, "
                f"the model's is {value}; use another store"
            )
