"""Reads what a file really holds, by its content and never by its name; decodes nothing."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.folder import frame_files
from xcomp_jax.video.streams import container_of, video_streams

CONTENT_TYPES = {
    "mov": "video/mp4",
    "matroska": "video/webm",
    "avi": "video/x-msvideo",
    "mpegts": "video/mp2t",
    "mpeg": "video/mpeg",
    "flv": "video/x-flv",
    "ogg": "video/ogg",
    "asf": "video/x-ms-asf",
    "gif": "image/gif",
}
"""Content types by the first name of ffmpeg's container."""

TIMEOUT_SECONDS = 60.0


def inspect(path: Path, max_pixels: int) -> tuple[str, tuple[int, int] | None]:
    """Returns the content type and the size (width, height) of the largest video stream.

    Raises:
        VideoError: the file is not a video.
        ApiError: its frames have more than `max_pixels` pixels.
    """
    if path.is_dir():
        sizes = [image_size(file, max_pixels) for file in frame_files(path)]
        return "image/jpeg", sizes[0]
    arguments = ffmpeg.input_arguments(ffmpeg.regular_file(path), threads=1, loglevel="info")
    output = [*arguments, "-c", "copy", "-t", "0", "-f", "null", "-"]
    _, stderr = ffmpeg.run(output, path, timeout=TIMEOUT_SECONDS)
    messages = stderr.decode("utf-8", "replace")
    container = container_of(messages).partition(",")[0]
    sizes = [
        (int(width), int(height))
        for stream in video_streams(messages)
        if stream.size
        for width, height in [stream.size.split("x")]
    ]
    size = max(sizes, key=lambda pair: pair[0] * pair[1], default=None)
    if size is not None:
        check_pixels(size, max_pixels)
    return CONTENT_TYPES.get(container, "application/octet-stream"), size


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Returns the size of an image from its header.

    Raises:
        ApiError: it is not an image, or has more than `max_pixels` pixels.
    """
    try:
        with Image.open(path) as image:
            size = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels("the frame", max_pixels) from None
    except (OSError, SyntaxError, ValueError):
        raise ApiError(
            400,
            "a frame is not a readable image; send JPEG, PNG or WebP",
            param="messages",
            code="invalid_image",
        ) from None
    check_pixels(size, max_pixels)
    return size


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raises ApiError if a frame of `size` has more than `max_pixels` pixels."""
    width, height = size
    if width * height > max_pixels:
        raise _too_many_pixels(f"a frame of {width} x {height}", max_pixels)


def _too_many_pixels(frame: str, max_pixels: int) -> ApiError:
    return ApiError(
        413,
        f"{frame} has more than {max_pixels:,} pixels, the limit; scale it down",
        code="too_many_pixels",
    )
