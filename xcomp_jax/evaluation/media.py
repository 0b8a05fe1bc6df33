"""Finds the videos of a benchmark in a data folder: files, folders of frames, or ZIP archives."""

from __future__ import annotations

import dataclasses
import lzma
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".MP4", ".MKV")


@dataclasses.dataclass(frozen=True)
class Place:
    """A video in the data folder: a file, a folder of frames, or a member of an archive."""

    path: Path
    member: str = ""
    """Name inside the ZIP archive `path`; empty for a file or folder."""


class VideoFinder:
    """Finds videos; lists every ZIP archive once."""

    def __init__(self, folder: Path, *, extracted_frames: bool = False) -> None:
        self.folder = folder
        self.extracted_frames = extracted_frames
        self._members: dict[str, list[Place]] | None = None

    def find(self, question: Question) -> Place:
        """Returns the place of a question's video.

        Raises:
            DataError: there is none, or archives hold several of that name; the message names the
                places that were searched.
        """
        found = [path for path in self._candidates(question) if path.exists()]
        # A folder of frames and a file may both exist; the protocol names the one it uses.
        found.sort(key=lambda path: path.is_dir() != self.extracted_frames)
        if found:
            return Place(found[0])
        if place := self._in_archives(question):
            return place
        folders = ", ".join(str(self.folder / base) for base in question.folders)
        raise DataError(
            f"question {question.id}: video {question.video} is missing; looked in {folders} and "
            f"in the ZIP archives of {self.folder}"
        )

    def _candidates(self, question: Question) -> Iterator[Path]:
        for base in question.folders:
            for name in file_names(question.video):
                yield self.folder / base / name

    def _in_archives(self, question: Question) -> Place | None:
        """Returns the member in one of the question's folders, or the only one of its name."""
        if self._members is None:
            members: dict[str, list[Place]] = {}
            for place in self._archive_members():
                members.setdefault(PurePosixPath(place.member).name, []).append(place)
            self._members = members
        names = file_names(question.video)
        found = [
            place for name in names for place in self._members.get(PurePosixPath(name).name, ())
        ]
        ends = tuple(f"/{base}/{name}" for base in question.folders for name in names if base)
        # Names such as video_1.mp4 occur in several sources of a benchmark.
        exact = [place for place in found if f"/{place.member}".endswith(ends)]
        if not exact and len(found) > 1:
            shown = ", ".join(f"{place.path.name}: {place.member}" for place in found[:3])
            raise DataError(
                f"question {question.id}: several archives hold a video {question.video} "
                f"({shown}); unpack them into {self.folder / question.folders[0]}"
            )
        return next(iter(exact or found), None)

    def _archive_members(self) -> Iterator[Place]:
        for archive in sorted(self.folder.glob("*.zip")) + sorted(self.folder.glob("*/*.zip")):
            try:
                with zipfile.ZipFile(archive) as file:
                    names = file.namelist()
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"{archive} is damaged ({error}); download it again") from error
            for name in names:
                if name.endswith(VIDEO_SUFFIXES) and ".." not in name:
                    yield Place(archive, name)


def file_names(video: str) -> list[str]:
    """Lists the names that a video may have: as given, with any suffix, or as a folder."""
    suffix = PurePosixPath(video).suffix
    stem = video.removesuffix(suffix) if suffix in VIDEO_SUFFIXES else video
    return list(dict.fromkeys([video, *(f"{stem}{other}" for other in VIDEO_SUFFIXES), stem]))


def local_file(place: Place, cache: Path) -> Path:
    """Returns a path that can be decoded; extracts an archive's member into `cache` once.

    A killed extraction leaves no file of that name, and the copy of a changed member has another.

    Raises:
        DataError: the member is damaged, encrypted, or compressed by an unknown method.
    """
    if not place.member:
        return place.path
    target = cache / place.path.stem / member_hash(place) / place.member.lstrip("/")
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with (
            zipfile.ZipFile(place.path) as file,
            file.open(place.member) as source,
            partial.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # Damaged data raises the decompressor's error before a checksum is compared.
        if isinstance(error, zipfile.BadZipFile | zlib.error | lzma.LZMAError | EOFError):
            raise DataError(
                f"{place.path}: member {place.member} is damaged ({error}); download it again"
            ) from error
        if isinstance(error, RuntimeError):  # also the one about unknown methods
            raise DataError(
                f"{place.path}: member {place.member} cannot be extracted ({error}); unpack the "
                "archive with another program"
            ) from error
        raise
    return target


def member_hash(place: Place) -> str:
    """Returns checksum and size of a member from its archive's directory, without reading it."""
    with zipfile.ZipFile(place.path) as archive:
        member = archive.getinfo(place.member)
    return f"{member.CRC:08x}-{member.file_size}"
