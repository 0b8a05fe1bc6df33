"""Decodes selected frames of a video in one pass, one frame at a time.

A frame is identified by its time in the packet list, never by counting decoded frames, so damage
does not shift the frames after it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from xcomp_jax.config.video import SamplingConfig
from xcomp_jax.video import ffmpeg, folder
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decoders import available_cores
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.file_reader import FileReader, find_damage
from xcomp_jax.video.ppm import Frame, Frames
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import VideoInfo

MAX_DAMAGED = SamplingConfig().max_damaged


def read_frames(
    video: str | Path | VideoInfo,
    indices: Sequence[int],
    *,
    size: int | None = None,
    resize: Literal["bicubic", "ffmpeg"] = "bicubic",
    max_damaged: float = MAX_DAMAGED,
    damage: Damage | None = None,
    threads: int | None = None,
    timeout: float = 600.0,
) -> Frames:
    """Yields frame `i` for every `i` in `indices`, as read-only uint8 [H, W, 3].

    The nearest frame that can be decoded takes the place of one that cannot. Closing the generator
    early stops ffmpeg.

    Args:
        video: path of a file or folder, or the result of `probe`, which saves probing it again.
        indices: sorted frame numbers; a repeated index yields the same array again.
        size: resize frames to [size, size, 3]; None keeps the native size.
        resize: "bicubic" applies the model's preprocessing exactly (`preprocess.resize_bicubic`);
            "ffmpeg" scales inside ffmpeg, which is faster but differs by a few grey levels.
        max_damaged: largest share of damaged frames to accept; 0 accepts no damage.
        damage: is filled with the damage met, complete when the generator ends; shares refer to
            `damage.requested` frames if that is more than there are in `indices`.
        threads: number of cores to use; None for all that this process may use.
        timeout: longest wait for the next frame, in seconds.

    Raises:
        VideoError: at once for an invalid path or indices; while iterating if too many frames are
            damaged or the video ends before the last index.
    """
    requested = [int(index) for index in indices]
    source = video.path if isinstance(video, VideoInfo) else ffmpeg.local_path(video)
    if not requested or requested[0] < 0 or any(a > b for a, b in itertools.pairwise(requested)):
        raise VideoError(
            source,
            "frame indices must be sorted, non-negative and at least one, "
            f"got {_abbreviated(requested)}",
            "Sort them, or take them from plan_frames.",
        )
    if resize not in ("bicubic", "ffmpeg"):
        raise ValueError(f"{resize=} is not known; known: 'bicubic', 'ffmpeg'")
    distinct = sorted(set(requested))
    if source.is_dir():
        # Images are read one by one with Pillow, so `resize` makes no difference.
        return _repeated(_folder_frames(source, distinct, size), requested, source)
    ffmpeg.regular_file(source)
    reader = FileReader(
        source,
        video if isinstance(video, VideoInfo) else None,
        size=size,
        resize=resize,
        max_damaged=max_damaged,
        damage=Damage() if damage is None else damage,
        threads=threads or available_cores(),
        timeout=timeout,
    )
    return _repeated(reader.frames(distinct), requested, source)


def count_damaged(info: VideoInfo, *, decode: bool, max_damaged: float = MAX_DAMAGED) -> int:
    """Returns the number of damaged frames of a video.

    Args:
        decode: decode every frame; otherwise only packets that are marked, of zeros or missing
            count.

    Raises:
        VideoError: more than the share `max_damaged` of the frames is damaged.
    """
    if info.packets is None:
        return 0
    if not decode:
        return info.packets.damaged
    damage = Damage(requested=info.num_frames)
    find_damage(info, damage, threads=1, timeout=600.0)
    damage.require_below(max_damaged, info.path, num_frames=info.num_frames)
    return len(damage.lost) + damage.concealed


def _repeated(frames: Frames, requested: list[int], path: Path) -> Frames:
    """Yields one frame per entry of `requested`; `frames` yields one per distinct entry."""
    with contextlib.closing(frames):
        for count, (index, repeats) in enumerate(itertools.groupby(requested)):
            frame: Frame | None = next(frames, None)
            if frame is None:
                raise VideoError(
                    path,
                    f"{len(set(requested))} different frames were requested up to index "
                    f"{requested[-1]}, {count} were decoded: there is no frame {index}",
                    "Count the frames with probe() and plan within them.",
                )
            frame.flags.writeable = False
            for _ in repeats:
                yield frame
        next(frames, None)  # The count of damaged frames is complete only at the end.


def _folder_frames(path: Path, indices: list[int], size: int | None) -> Frames:
    files = folder.frame_files(path)
    for index in indices:
        if index >= len(files):
            return
        image = folder.read_image(files[index])
        yield image if size is None else resize_bicubic(image, size)


def _abbreviated(indices: list[int]) -> str:
    return str(indices) if len(indices) <= 6 else f"[{str(indices[:6])[1:-1]}, ...]"
