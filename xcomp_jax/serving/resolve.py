"""Finds the source of a video that a request names; blocking, for the thread pool."""

from __future__ import annotations

import collections
import re
import threading
from collections.abc import Callable
from urllib.parse import unquote

from xcomp_jax.serving.chat_request import Media
from xcomp_jax.serving.download import checked_url, download
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.files import FileStore, shown_filename
from xcomp_jax.serving.library import Library
from xcomp_jax.serving.local_files import local_source
from xcomp_jax.serving.media import MediaStore, decode_base64, is_frame_list, parse_data_url
from xcomp_jax.serving.settings import ServingConfig
from xcomp_jax.serving.video import Source, Video

MAX_UUIDS = 10_000
"""Clients' own ids remembered per API key; the least recently used one is forgotten."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}):")


class Resolver:
    """Maps URLs and clients' own ids to sources."""

    def __init__(
        self, config: ServingConfig, files: FileStore, media: MediaStore, library: Library
    ) -> None:
        self._config, self._files, self._media = config, files, media
        self._library = library
        self._uuids: dict[str, collections.OrderedDict[str, Source | Video]] = {}
        self._lock = threading.Lock()

    def find(self, media: Media, *, owner: str) -> Source | Video:
        """Returns the source, or the video that `xcomp://video-...` names.

        Args:
            owner: the API key; a client's own ids are its own.

        Raises:
            ApiError: the URL is not allowed, invalid, or names nothing.
        """
        found: Source | Video | None = None
        if media.urls and media.is_frames:
            found = self._frames(media.urls, media.fps)
        elif media.urls:
            found = self.url(media.urls[0], media.fps)
        if media.uuid is None:
            assert found is not None  # read_chat refuses parts without url and uuid
            return found
        with self._lock:
            uuids = self._uuids.setdefault(owner, collections.OrderedDict())
            found = found or uuids.get(media.uuid)
            if found is None:
                raise ApiError(
                    404,
                    f"there is no video with uuid {media.uuid!r:.100}; send its url once",
                    param="uuid",
                    code="not_found",
                )
            uuids[media.uuid] = found
            uuids.move_to_end(media.uuid)
            if len(uuids) > MAX_UUIDS:
                uuids.popitem(last=False)
        return found

    def url(self, url: str, fps: float = 1.0) -> Source | Video:
        """Returns the source of one URL; see `find`."""
        match = _SCHEME.match(url)
        scheme = "" if match is None else match[1].lower()
        schemes: dict[str, Callable[[], Source | Video]] = {
            "xcomp": lambda: self._known(url[len("xcomp:") :].removeprefix("//")),
            "data": lambda: self._data(url, fps),
            "file": lambda: local_source(url, self._config.allowed_folders),
            "http": lambda: self._downloaded(url),
            "https": lambda: self._downloaded(url),
        }
        if scheme not in schemes:
            raise ApiError(
                400,
                f"the url begins with {url[:20]!r}; use xcomp://ID, data:, file:// or https://",
                param="messages",
                code="invalid_url",
            )
        return schemes[scheme]()

    def file(self, file_id: str) -> Source:
        """Returns the source of an uploaded file."""
        file = self._files.get(file_id)
        return Source(file.id, file.path, file.filename, file_id=file.id)

    def _known(self, name: str) -> Source | Video:
        return self.file(name) if name.startswith("file-") else self._library.get(name)

    def _data(self, url: str, fps: float) -> Source:
        kind, parts = parse_data_url(url)
        return (
            self._media.frames(parts, fps) if is_frame_list(kind) else self._media.video(parts[0])
        )

    def _frames(self, urls: tuple[str, ...], fps: float) -> Source:
        most = self._config.limits.max_images
        if len(urls) > most:
            raise ApiError(
                400, f"{len(urls):,} frames are more than the limit of {most:,}", param="messages"
            )
        return self._media.frames([self._image(url) for url in urls], fps)

    def _image(self, url: str) -> bytes:
        if url.startswith(("http:", "https:")):
            source = self._downloaded(url)
            return source.path.read_bytes()
        if not url.startswith("data:"):
            # SGLang's clients send the base64 of a frame without a prefix.
            return decode_base64(url)
        kind, parts = parse_data_url(url)
        if not is_frame_list(kind) or len(parts) != 1:
            raise ApiError(400, f"a frame must be one image, not {kind}", param="messages")
        return parts[0]

    def _downloaded(self, url: str) -> Source:
        allowed, limits = self._config.allowed_domains, self._config.limits
        parts = checked_url(url, allowed)
        partial = self._files.new_partial()
        try:
            download(url, partial, allowed=allowed, max_bytes=limits.max_upload_bytes)
            name = shown_filename(unquote(parts.path.rpartition("/")[2], errors="replace"))
            return self._media.move(partial, name)
        finally:
            partial.unlink(missing_ok=True)
