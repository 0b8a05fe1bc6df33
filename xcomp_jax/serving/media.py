"""Keeps videos and frames that arrive inside requests, by their content.

A client that sends a conversation again sends its video again; equal bytes are one video.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.ids import random_id
from xcomp_jax.serving.inspect_video import image_size
from xcomp_jax.serving.settings import Limits
from xcomp_jax.serving.video import Source

_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]*)*(?P<base64>;base64)?,"
)

SHARE = 4
"""Such a share of the quota is for media of requests; the least recently used are deleted."""


class MediaStore:
    """Stores media below `root`; thread-safe."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root, self._limits = root, limits
        self._lock = threading.Lock()
        # Beside the media, so that media below `root` are whole.
        self._partial_folder = root.with_name(f"{root.name}-partial")
        shutil.rmtree(self._partial_folder, ignore_errors=True)  # of a killed server
        for folder in (root, self._partial_folder):
            folder.mkdir(parents=True, exist_ok=True)

    def video(self, content: bytes) -> Source:
        """Stores a video file."""
        digest = hashlib.sha256(content).hexdigest()
        folder = self.root / f"video-{digest}"
        self._store(folder, {"content": content})
        return Source(f"content:{digest}", folder / "content", "video")

    def frames(self, images: Sequence[bytes], fps: float) -> Source:
        """Stores images as a video of `fps` images per second.

        Raises:
            ApiError: there are too many, or one is not an image.
        """
        if not 0 < len(images) <= self._limits.max_images:
            raise ApiError(
                400,
                f"the list has {len(images):,} frames; send from 1 to {self._limits.max_images:,}",
                param="messages",
            )
        hashes = [hashlib.sha256(image).digest() for image in images]
        digest = hashlib.sha256(b"".join(hashes)).hexdigest()
        folder = self.root / f"frames-{digest}"
        # The suffix names no type: readers look at the content.
        self._store(folder, {f"{i:06d}.jpg": image for i, image in enumerate(images)}, check=True)
        return Source(
            f"frames:{digest}:{fps!r}",
            folder,
            "image" if len(images) == 1 else f"{len(images)} frames",
            folder_fps=fps,
            is_list=True,
        )

    def move(self, partial: Path, name: str) -> Source:
        """Stores a downloaded file by moving it."""
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        folder = self.root / f"video-{digest}"
        if not self._is_known(folder):
            with self._new_folder(folder) as new:
                partial.replace(new / "content")
        partial.unlink(missing_ok=True)
        return Source(f"content:{digest}", folder / "content", name)

    def _store(self, folder: Path, files: dict[str, bytes], *, check: bool = False) -> None:
        if self._is_known(folder):
            return
        with self._new_folder(folder) as new:
            for name, content in files.items():
                (new / name).write_bytes(content)
                if check:
                    image_size(new / name, self._limits.max_pixels)

    def _is_known(self, folder: Path) -> bool:
        """Returns True if a folder exists, and marks it as used."""
        with self._lock:
            if folder.is_dir():
                os.utime(folder)
                return True
            return False

    @contextlib.contextmanager
    def _new_folder(self, folder: Path) -> Iterator[Path]:
        """Yields an empty folder that becomes `folder` at the end of the block."""
        new = self._partial_folder / random_id("partial")
        new.mkdir()
        try:
            yield new
            with self._lock:
                if not folder.is_dir():
                    new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._make_room(folder)

    def _make_room(self, kept: Path) -> None:
        """Deletes the least recently used media above their share of the quota."""
        with self._lock:
            folders = sorted(self.root.iterdir(), key=lambda folder: folder.stat().st_mtime)
            sizes = {
                folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in folders
            }
            excess = sum(sizes.values()) - self._limits.quota_bytes // SHARE
            for folder in folders:
                if excess > 0 and folder != kept:
                    shutil.rmtree(folder, ignore_errors=True)
                    excess -= sizes[folder]


def parse_data_url(url: str) -> tuple[str, list[bytes]]:
    """Returns the media type of a data URL, in lower case, and its base64 parts.

    `data:video/jpeg;base64,A,B,C` is a list of frames; every other type has one part.

    Raises:
        ApiError: it is not such a URL, or of another type.
    """
    match = _DATA_URL.match(url)
    if match is None or not match["base64"]:
        raise _invalid("it must have the form data:TYPE;base64,DATA")
    kind = (match["type"] or "").lower()
    if kind.partition("/")[0] not in ("video", "image"):
        raise _invalid(f"its type is {kind[:60] or 'missing'!r}; use video/... or image/...")
    texts = url[match.end() :].split(",")
    if len(texts) > 1 and not is_frame_list(kind):
        raise _invalid(f"{kind} has one part; data:video/jpeg;base64,A,B,C is a list of frames")
    return kind, [decode_base64(text) for text in texts]


def is_frame_list(kind: str) -> bool:
    """Returns True if a media type stands for frames."""
    return kind.startswith("image/") or kind in ("video/jpeg", "video/png", "video/webp")


def decode_base64(text: str) -> bytes:
    """Decodes base64 with or without padding.

    Raises:
        ApiError: the text is something else, or empty.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("its data are not base64") from None
    if not data:
        raise _invalid("it has no data")
    return data


def _invalid(reason: str) -> ApiError:
    return ApiError(400, f"a data URL is invalid: {reason}", param="messages", code="invalid_url")
