"""Reads and writes text and JSON files; each write is atomic."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
from pathlib import Path
from typing import Any


class TextError(ValueError):
    """Raised for a file that is not UTF-8 text; the message names the file and the remedy."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is not UTF-8 text ({reason}); save it as UTF-8 text")
        self.reason = reason


def read_text(path: Path) -> str:
    """Reads UTF-8 text, with or without a byte-order mark; every line end becomes a newline.

    Every text that a user may have written is read by this function.

    Raises:
        TextError: the file is UTF-16 or binary.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TextError(path, "it starts with the byte-order mark of UTF-16")
    if b"\0" in data:
        raise TextError(path, "it holds zero bytes, as binary files and UTF-16 do")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextError(path, f"byte {data[error.start]:#04x} in line {line}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically, so that a killed process never leaves half a file.

    Raises:
        OSError: as `write_bytes`.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically.

    Raises:
        OSError: the file cannot be written, for example because the disk is full. The error names
            `path`, and neither the file nor a part of it is left.
    """
    partial = partial_path(path)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            # An error of a write, unlike one of an opening, has no file name.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def partial_path(path: Path) -> Path:
    """Returns the file that is written before it gets the name `path`."""
    return path.with_name(f".{path.name}.partial")


def check_writable(path: Path) -> None:
    """Checks that a file can be written to `path`; call it before expensive work.

    Raises:
        ValueError: the folder does not exist or cannot be written, or `path` is a folder or has too
            long a name.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{path}: folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; add the name of a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: folder {path.parent} cannot be written; choose another one")
    length = len(os.fsencode(partial_path(path).name))
    most = os.pathconf(path.parent, "PC_NAME_MAX")
    if length > most:
        raise ValueError(f"{path}: the name is {length - most} bytes too long; use a shorter one")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, *, remedy: str = "delete the file; it will be written again") -> Any:
    """Reads a JSON file.

    Args:
        remedy: advice for the error message.

    Raises:
        ValueError: the file is damaged; the message names it and ends with `remedy`.
    """
    try:
        return json.loads(read_text(path))
    except TextError as error:
        raise ValueError(f"{path} is damaged ({error.reason}): {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error
