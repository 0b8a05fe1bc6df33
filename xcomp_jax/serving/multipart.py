"""Writes the file of a multipart body straight to its folder, in bounded memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.files import FileStore

MAX_FIELD_BYTES = 1024
BATCH_BYTES = 1 << 20


@dataclasses.dataclass
class Upload:
    """Fields of a multipart body; the file's bytes are in `path` and reserved in the store."""

    path: Path
    filename: str = ""
    size: int = 0
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    has_file: bool = False


class _Receiver:
    """Receives the callbacks of the parser."""

    def __init__(self, store: FileStore, upload: Upload, file: IO[bytes], name: str) -> None:
        self._store, self._upload, self._file, self._file_field = store, upload, file, name
        self._header, self._value = b"", b""
        self._name, self._is_file = "", False
        self._text = b""

    def on_part_begin(self) -> None:
        self._name, self._is_file, self._text = "", False, b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = _bounded(self._header + data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = _bounded(self._value + data[start:end])

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            if self._name == self._file_field:
                if self._upload.has_file:
                    raise ApiError(400, "the form has several files; send one per request")
                self._is_file = self._upload.has_file = True
                name = options.get(b"filename", b"upload")
                self._upload.filename = name.decode("utf-8", "replace")
        self._header = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            size, most = end - start, self._store.limits.max_upload_bytes
            if self._upload.size + size > most:
                raise too_large(most)
            self._store.reserve(size)
            self._upload.size += size
            self._file.write(data[start:end])
        else:
            self._text = _bounded(self._text + data[start:end])

    def on_part_end(self) -> None:
        if not self._is_file and self._name:
            self._upload.fields[self._name] = self._text.decode("utf-8", "replace")


async def receive_file(
    store: FileStore, content_type: str, body: AsyncIterator[bytes], *, field: str = "file"
) -> Upload:
    """Reads a multipart body; the caller adds or discards the file.

    Args:
        field: name of the form field with the file.

    Raises:
        ApiError: the body is not such a form, or too large.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError(
            415, "the body must be multipart/form-data with a file; see /docs", param=field
        )
    upload = Upload(store.new_partial())
    try:
        with upload.path.open("wb") as file:
            receiver = _Receiver(store, upload, file, field)
            names = ("part_begin", "part_data", "part_end", "header_field", "header_value")
            callbacks = {f"on_{name}": getattr(receiver, f"on_{name}") for name in names}
            callbacks["on_header_end"] = receiver.on_header_end
            parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
            pending = bytearray()
            async for chunk in body:
                pending += chunk
                if len(pending) >= BATCH_BYTES:
                    await to_thread.run_sync(functools.partial(parser.write, bytes(pending)))
                    pending.clear()
            parser.write(bytes(pending))
            parser.finalize()
        if not upload.has_file:
            raise ApiError(400, f"the form has no field {field!r} with a file", param=field)
    except (FormParserError, KeyError, ValueError) as error:
        discard(store, upload)
        raise ApiError(400, f"the form cannot be read: {error}", param=field) from None
    except BaseException:
        discard(store, upload)
        raise
    return upload


def discard(store: FileStore, upload: Upload) -> None:
    """Deletes a received file that is not added."""
    upload.path.unlink(missing_ok=True)
    store.reserve(-upload.size)


def too_large(most: int) -> ApiError:
    """Returns the error of a body or file above its limit."""
    return ApiError(
        413, f"the limit is {most:,} bytes; send a smaller file or body", code="too_large"
    )


def _bounded(text: bytes) -> bytes:
    if len(text) > MAX_FIELD_BYTES:
        raise ApiError(400, f"a field of the form is longer than {MAX_FIELD_BYTES:,} bytes")
    return text
