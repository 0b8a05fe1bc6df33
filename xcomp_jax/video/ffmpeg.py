"""Calls the bundled ffmpeg: local files and known containers only, without a shell."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg

from xcomp_jax.video.errors import MissingVideoError, VideoError

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
"""Allowed demuxers. Playlists (HLS, DASH, ffconcat) are excluded: they open other files."""

MAX_PIXELS = 8192 * 8192
"""Larger pictures are not decoded, so that memory is bounded where a stream changes its size."""

REENCODE = (
    "If other players show it, re-encode it first, e.g. `ffmpeg -i IN -c:v libx264 OUT.mp4`, "
    "and use the new file."
)

COPY_AGAIN = "Copy or download it again."
CHECK_PATH = "Check the path, its permissions, and that the storage is mounted."


def local_path(path: str | Path) -> Path:
    """Returns the absolute path of an existing file or folder.

    Raises:
        VideoError: the path does not exist, or is a URL or has a protocol prefix.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise VideoError(repr(text), "not a path", "Pass the path of a video file or folder.")
    local = Path(text)
    try:
        exists = local.exists()
    except OSError as error:
        raise VideoError(text[:200], f"cannot be opened ({error.strerror})", CHECK_PATH) from error
    if not exists:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)
        if scheme:
            raise VideoError(
                text,
                f"'{scheme[1]}:' looks like a protocol; only local files are supported",
                "Download the video and pass the path of the file.",
            )
        raise MissingVideoError(text, "no such file or folder", CHECK_PATH)
    return Path(os.path.abspath(local))


def regular_file(path: Path) -> Path:
    """Returns `path` if it is a regular, non-empty file.

    Pipes and devices are refused because reading them could block forever.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror})", CHECK_PATH) from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a folder, not a file", CHECK_PATH)
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(
            path,
            "is neither a file nor a folder (a pipe, socket or device)",
            "Write the video to a file first.",
        )
    if status.st_size == 0:
        raise VideoError(path, "the file is empty (0 bytes)", COPY_AGAIN)
    return path


def input_arguments(
    path: Path,
    *,
    threads: int,
    stream: int | None = None,
    loglevel: str = "warning",
    options: Sequence[str] = (),
) -> list[str]:
    """Returns the executable and all arguments up to and including the input file.

    Args:
        stream: index of the stream to read; None for the first video stream.
        loglevel: level of the messages, each of which starts with its own level in brackets.
        options: further options of the input.
    """
    return [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-hide_banner", "-nostats", "-nostdin", "-loglevel", f"repeat+level+{loglevel}"),
        # Damage is counted and limited by the caller.
        *("-max_error_rate", "1"),
        *("-max_pixels", str(MAX_PIXELS)),
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS),
        *("-threads", str(threads)),
        *options,
        # With protocol and absolute path, a file name cannot be read as an option or a URL.
        *("-i", f"file:{path}"),
        # "V" excludes cover pictures, which are video streams of one frame.
        *("-map", "0:V:0" if stream is None else f"0:{stream}"),
    ]


def summarize_stderr(stderr: bytes) -> str:
    """Returns the first and the last error of ffmpeg's messages, without memory addresses."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    errors = [line for line in lines if re.search(r"\[(error|fatal|panic)\]", line)]
    lines = [re.sub(r"\[[^\]]*( @ 0x[0-9a-f]+)?\] ?", "", line).strip() for line in errors or lines]
    lines = [line for line in lines if line and not line.startswith("Error opening input file")]
    summary = dict.fromkeys(line[:150] for line in lines[:1] + lines[-1:])
    return " ... ".join(summary) or "no message"


def failure(path: Path, returncode: int, stderr: bytes) -> VideoError:
    """Builds the error for a failed ffmpeg run, with a plain reason for the known causes."""
    if b"moov atom not found" in stderr:
        return VideoError(
            path,
            "truncated: it has no index (moov atom), so its recording or download did not end",
            f"{COPY_AGAIN} Without the index no frame can be found, not even with --partial.",
        )
    if b"matches no streams" in stderr:
        return VideoError(
            path, "the file has no video stream", "Audio alone is not supported; use a video file."
        )
    if b"not on whitelist" in stderr:
        return VideoError(
            path,
            f"the content is not a supported video container ({CONTAINERS}), "
            "whatever the file name says; playlists and scripts are not allowed",
            REENCODE,
        )
    if b"Error opening input: Invalid data" in stderr:
        return VideoError(path, "the file is truncated, damaged, or not a video", REENCODE)
    return VideoError(
        path,
        f"ffmpeg exited with code {returncode} ({summarize_stderr(stderr)}): "
        "truncated, damaged, or not a video",
        REENCODE,
    )


def run(arguments: list[str], path: Path, *, timeout: float) -> tuple[bytes, bytes]:
    """Runs ffmpeg to its end and returns its stdout and stderr.

    Raises:
        VideoError: ffmpeg fails, or takes longer than `timeout` seconds.
    """
    try:
        result = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VideoError(
            path,
            f"ffmpeg did not finish within {timeout:g} s",
            "Check that the storage responds, or raise `timeout`.",
        ) from error
    if result.returncode != 0:
        raise failure(path, result.returncode, result.stderr)
    return result.stdout, result.stderr
