"""Probes every file of a mixture once and records the result in a table (`scan_table`).

A row is appended for each file, so that an interrupted scan resumes; at the end the table is
rewritten in order. A file is probed again when it could not be read before, or when its size has
changed (for a folder: names or sizes of its images, or its stated duration).
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xcomp_jax.config import ConfigError
from xcomp_jax.data.mixture.media import Media, image_path, probe_media
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.data.mixture.scan_table import (
    COLUMNS,
    Facts,
    FileKey,
    Table,
    file_key,
    file_row,
    read_table,
    whole_file,
    write_table,
)
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.decode import MAX_DAMAGED, count_damaged
from xcomp_jax.video.errors import MissingVideoError, VideoError
from xcomp_jax.video.size import size_of


def scan(
    samples: Sequence[Sample],
    root: Path,
    path: Path,
    *,
    workers: int,
    decode: bool = False,
    max_damaged: float = MAX_DAMAGED,
    progress: bool = True,
) -> Table:
    """Updates the table at `path` with the files of `samples`, using `workers` threads.

    Args:
        decode: decode every video and count its damaged frames, also of known files.
        max_damaged: a video with a larger share of damaged frames is unreadable.

    Rows of other files are kept, so that a larger share of the same mixture can be scanned later.

    Raises:
        ConfigError: `path` is not such a table, or a sample's path is not valid Unicode.
    """
    table = read_table(path)
    files = _distinct_files(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, (), table)  # removes a row that a kill has cut off
    with path.open("a", encoding="utf-8", newline="") as file, ThreadPoolExecutor(workers) as pool:
        writer = csv.DictWriter(file, list(COLUMNS), extrasaction="raise")
        bar = ProgressBar(total=len(files), desc="scanning", unit="file", disable=not progress)
        probe = functools.partial(_probe, root=root, decode=decode, max_damaged=max_damaged)
        results = pool.map(lambda key: probe(files[key], table.get(key)), files)
        try:
            for key, facts in zip(files, results, strict=True):
                if table.get(key) != facts:
                    table[key] = facts
                    writer.writerow(file_row(whole_file(key), facts))
                    file.flush()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            bar.close()
    return table


def _distinct_files(samples: Sequence[Sample]) -> dict[FileKey, Media]:
    files = {file_key(sample.media): sample.media for sample in samples}
    for path, _ in files:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"the path {path!r} of a sample is not valid Unicode; correct it in its set"
            ) from error
    return files


def _probe(
    media: Media, known: Facts | None, *, root: Path, decode: bool, max_damaged: float
) -> Facts:
    """Probes one file, or returns the `known` facts if they are still valid."""
    path, size = root / media.path, -1
    try:
        size = size_of(image_path(path) if media.kind == "image" else ffmpeg.local_path(path))
        if known is not None and _is_valid(known, size) and not decode:
            return known
        info = probe_media(media, root)
        damaged = count_damaged(info, decode=decode, max_damaged=max_damaged)
    except MissingVideoError as error:
        return Facts(bytes=-1, missing=True, reason=error.reason)
    except VideoError as error:
        return Facts(bytes=size, reason=error.reason)
    except (OSError, ValueError) as error:  # such as a name that is too long
        return Facts(bytes=size, reason=str(error))
    return Facts(
        bytes=size,
        file_frames=info.num_frames,
        fps=info.fps,
        seconds=info.duration,
        uneven=info.is_uneven,
        damaged=damaged,
    )


def _is_valid(known: Facts, size: int) -> bool:
    return not known.reason and known.bytes == size and known.damaged is not None
