"""How the bundled ffmpeg is called: local files only, known containers only, no shell."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import imageio_ffmpeg

from xcomp_jax.video.errors import MissingVideoError, VideoError

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
"""Demuxers ffmpeg may choose. Playlists (HLS, DASH, ffconcat) are not: they open other files."""

REENCODE = (
    "If other players show it, re-encode it first, e.g. `ffmpeg -i IN -c:v libx264 OUT.mp4`, "
    "and use the new file."
)

AGAIN = "Copy or download it again."
CHECK = "Check the path, its rights, and that the storage is mounted."


def local_path(path: str | Path) -> Path:
    """Absolute path of an existing file or folder; a URL or a protocol prefix is refused."""
    text = os.fspath(path)
    if not text or "\0" in text:
        raise VideoError(repr(text), "not a path", "Give the path of a video file or folder.")
    found = Path(text)
    try:
        exists = found.exists()
    except OSError as error:
        raise VideoError(text[:200], f"cannot be opened ({error.strerror})", CHECK) from error
    if not exists:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)
        if scheme:
            raise VideoError(
                text,
                f"'{scheme[1]}:' looks like a protocol, only local files are read",
                "Download the video and give the path of the file.",
            )
        raise MissingVideoError(text, "no such file or folder", CHECK)
    return Path(os.path.abspath(found))


def regular_file(path: Path) -> Path:
    """`path` if it is a regular file that is not empty; pipes and devices could block for ever."""
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror})", CHECK) from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a folder, not a file", CHECK)
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(
            path,
            "is neither a file nor a folder (a pipe, socket or device)",
            "Write the video to a file first.",
        )
    if status.st_size == 0:
        raise VideoError(path, "the file is empty (0 bytes)", AGAIN)
    return path


def input_arguments(path: Path, *, threads: int) -> list[str]:
    """The executable and everything up to and including the input file."""
    return [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-hide_banner", "-loglevel", "error", "-nostdin", "-xerror"),
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS),
        *("-threads", str(threads)),
        # An explicit protocol and an absolute path: a name can be neither an option nor a URL.
        *("-i", f"file:{path}"),
        # V leaves out cover pictures, which are video streams of one frame.
        *("-map", "0:V:0"),
    ]


def complaint(stderr: bytes) -> str:
    """The first and the last thing ffmpeg said, in one line, without addresses in memory."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    lines = [re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ?", "", line).strip() for line in lines]
    lines = [line for line in lines if line and not line.startswith("Error opening input file")]
    return " ... ".join(dict.fromkeys(line[:150] for line in lines[:1] + lines[-1:])) or "silently"


def refused(path: Path, returncode: int, stderr: bytes) -> VideoError:
    """The error for an ffmpeg run that failed, with the reason in plain words where it is known."""
    said = complaint(stderr)
    if b"matches no streams" in stderr:
        return VideoError(
            path, "the file holds no video stream", "Audio alone cannot be used; give a video file."
        )
    if b"not on whitelist" in stderr:
        return VideoError(
            path,
            f"the content is not one of the video containers read here ({CONTAINERS}), "
            "whatever the name says; playlists and scripts are refused on purpose",
            REENCODE,
        )
    return VideoError(
        path,
        f"ffmpeg stopped with code {returncode} ({said}): truncated, damaged, or not a video",
        REENCODE,
    )


def run(arguments: list[str], path: Path, *, timeout: float) -> tuple[bytes, bytes]:
    """Output and messages of a finished ffmpeg run; VideoError on failure or after `timeout` s."""
    try:
        result = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VideoError(
            path,
            f"ffmpeg gave no answer within {timeout:g} s",
            "Check that the storage answers, or raise `timeout`.",
        ) from error
    if result.returncode != 0:
        raise refused(path, result.returncode, result.stderr)
    return result.stdout, result.stderr
