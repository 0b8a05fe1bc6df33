"""Encoder output of a mixture on disk, so that training decodes and encodes nothing.

Kept is what the frozen encoder makes of a clip after token merging, which has no parameters, and
before the projector's MLP, which learns: `tokens_per_frame` rows of the encoder's width a frame.

    ROOT/videos, ROOT/hashes      a token store (`token_store`): clips by content
    ROOT/features.json            the encoder that made them
    ROOT/index-<process>.csv      which entry of the store holds which image or video

The index says all that reading needs, so the images and videos themselves may be elsewhere by then.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.config import ConfigError, DType, ModelConfig
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.files import read_json, write_json
from xcomp_jax.token_store import StoreKey, TokenStore, TokenStoreError, VideoTokens, hash_encoder
from xcomp_jax.token_store.keys import DTYPES
from xcomp_jax.token_store.locks import EXCLUSIVE, locked
from xcomp_jax.token_store.paths import FEATURES_FILE, LOCK_FILE, VIDEOS, read_key
from xcomp_jax.video.sampling import FramePlan

PREPROCESSING = "bicubic, ImageNet mean and deviation; merged, not projected"
COLUMNS = ("path", "kind", "start", "end", "bytes", "frames", "indices", "digest")

ENCODE = "run `xcomp encode --mixture` with this store again: what is there is kept"


class FeatureStore:
    """The features below `root`, of one encoder. Threads may share one.

    Attributes:
        encoder_hash: `encoder_hash_of` the parameters that made them.
        dtype: of the features.

    Raises:
        ConfigError: the folder holds none, or those of another encoder than `model` has.
    """

    def __init__(self, root: Path, model: ModelConfig) -> None:
        path = root / FEATURES_FILE
        if not path.exists():
            raise ConfigError(
                f"{root} holds no features ({FEATURES_FILE} is missing); fill it with "
                "`xcomp encode --mixture`"
            )
        settings = read_json(path, remedy="fill another store with `xcomp encode --mixture`")
        _check(root, settings["encoder"], encoder_settings(model))
        self.root = root
        self.encoder_hash: str = settings["encoder_hash"]
        self.dtype: DType = settings["dtype"]
        self.tokens_per_frame = model.projector.tokens_per_frame
        self._vision = model.vision
        self._store = TokenStore(root)
        self._lock = threading.Lock()
        self._digests: dict[tuple[str, ...], str] = {}
        for file in sorted(root.glob("index-*.csv")):
            with file.open(encoding="utf-8", errors="replace", newline="") as lines:
                for row in csv.reader(lines):
                    if len(row) == len(COLUMNS) and len(row[-1]) == 64:  # else: cut off by a kill
                        self._digests[tuple(row[:-1])] = row[-1]

    @property
    def bytes_per_frame(self) -> int:
        return self.tokens_per_frame * self._vision.width * DTYPES[self.dtype].itemsize

    def require(self, media: Media, plan: FramePlan, size: int) -> None:
        """Raises TokenStoreError unless the index has the frames of `plan` of that file.

        `size` is `Facts.bytes`: what was replaced has no features.
        """
        self._digest(media, plan, size)

    def read(self, media: Media, plan: FramePlan, size: int) -> np.ndarray:
        """[F * tokens_per_frame, D_vision] in `dtype`.

        Raises:
            TokenStoreError: something of it is missing or damaged.
        """
        digest = self._digest(media, plan, size)
        key = read_key(self.root / VIDEOS / digest)
        if key is None:
            raise TokenStoreError(f"{media.path}: {digest} is not in {self.root}; {ENCODE}")
        starts = range(0, key.num_clips, key.clip_frames)
        clips = self._store.video(key).read(starts)
        if len(clips) < len(starts):
            raise TokenStoreError(
                f"{media.path}: {len(starts) - len(clips)} of {len(starts)} clips are missing in "
                f"{self.root}; {ENCODE}"
            )
        return np.concatenate([clips[start] for start in starts])

    def nothing(self, plan: FramePlan) -> np.ndarray:
        """Zeros in place of an example that cannot be read."""
        shape = (plan.num_frames * self.tokens_per_frame, self._vision.width)
        return np.zeros(shape, DTYPES[self.dtype])

    def complete(self, media: Media, plan: FramePlan, size: int) -> bool:
        """Whether every clip is there, by the headers of the store."""
        digest = self._digests.get(index_key(media, plan, size))
        key = None if digest is None else read_key(self.root / VIDEOS / digest)
        if key is None:
            return False
        return not self._store.video(key).missing(range(0, key.num_clips, key.clip_frames))

    def shelf(self, media: Media, path: Path, plan: FramePlan) -> VideoTokens:
        """Where the clips of a file belong; reads the file to know its content."""
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

    def enter(
        self, media: Media, plan: FramePlan, size: int, shelf: VideoTokens, process: int
    ) -> None:
        """Notes in the index of this process that `shelf` is whole."""
        name, digest = index_key(media, plan, size), shelf.key.digest
        path = self.root / f"index-{process}.csv"
        with self._lock:
            self._digests[name] = digest
            _cut_torn_row(path)
            with path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow([*name, digest])

    def _digest(self, media: Media, plan: FramePlan, size: int) -> str:
        digest = self._digests.get(index_key(media, plan, size))
        if digest is None:
            raise TokenStoreError(
                f"{media.path}: its {plan.num_frames} frames are not in {self.root}; {ENCODE}"
            )
        return digest


def create_features(
    root: Path, model: ModelConfig, encoder_hash: str, dtype: DType
) -> FeatureStore:
    """Opens the store at `root` for writing, or begins one.

    Raises:
        ConfigError: it was begun with another encoder, in another dtype, or for questions.
    """
    path = root / FEATURES_FILE
    mine = {
        "encoder_hash": encoder_hash,
        "dtype": dtype,
        "encoder": encoder_settings(model),
    }
    root.mkdir(parents=True, exist_ok=True)
    # `write_json` gives its partial file a fixed name: one writer at a time.
    with locked(root / LOCK_FILE, EXCLUSIVE):
        if not path.exists():
            if (root / VIDEOS).exists():
                raise ConfigError(
                    f"{root} holds visual tokens of videos, of which some go when it grows too "
                    "large; use another --store for features"
                )
            write_json(path, mine)
    theirs = read_json(path, remedy="use another --store")
    _check(root, theirs, json.loads(json.dumps(mine)))
    return FeatureStore(root, model)


def encoder_settings(model: ModelConfig) -> dict[str, Any]:
    """All but parameters that the features follow from."""
    return {
        "vision": dataclasses.asdict(model.vision),
        "projector": dataclasses.asdict(model.projector),
    }


def encoder_hash_of(vision: Mapping[str, Any], model: ModelConfig) -> str:
    """Changes with any parameter of the encoder (`params["vision"]`) and any of its settings."""
    return hash_encoder({"vision": vision}, encoder_settings(model))


def index_key(media: Media, plan: FramePlan, size: int) -> tuple[str, ...]:
    """The columns before the digest: which frames of which file."""
    indices = hashlib.sha256(json.dumps(plan.indices).encode()).hexdigest()[:16]
    values = (*dataclasses.astuple(media), size, plan.num_frames, indices)
    return tuple("" if value is None else str(value) for value in values)


def _cut_torn_row(path: Path) -> None:
    """Takes away what a killed process left of a row, which would swallow the next one."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        torn = file.read() != b"\n"
    if torn:
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _check(root: Path, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise ConfigError(
                f"{root} holds features of another encoder: its {name} is {theirs.get(name)}, "
                f"wanted is {value}; use another store"
            )
