"""Reads frames of a video file by their times, and replaces those that are lost."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xcomp_jax import account
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decoders import MAX_THREADS
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.ffmpeg_frames import decodable_ticks, timed_frames
from xcomp_jax.video.packet_bytes import PacketBytes
from xcomp_jax.video.packets import PacketList
from xcomp_jax.video.ppm import Frame, Frames
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.read_plan import obstacle, plan_read
from xcomp_jax.video.resizing import resized
from xcomp_jax.video.span_process import SpanError
from xcomp_jax.video.span_reader import SpanReader, max_span_frames

logger = logging.getLogger(__name__)

MAX_EARLY = 16
"""Frames that a decoder delivers before an earlier one, as some do after damage."""


class FileReader:
    """Reads frames of one file; arguments as in `read_frames`."""

    def __init__(
        self,
        path: Path,
        info: VideoInfo | None,
        *,
        size: int | None,
        resize: Literal["bicubic", "ffmpeg"],
        max_damaged: float,
        damage: Damage,
        threads: int,
        timeout: float,
    ) -> None:
        self._path, self._info, self._side = path, info, size
        self._scaled = size if resize == "ffmpeg" else None
        self._max_damaged, self._damage = max_damaged, damage
        self._threads, self._timeout = threads, timeout

    def frames(self, indices: list[int]) -> Frames:
        """Yields the frames at distinct `indices`; fewer if the video is shorter."""
        info = self._info or probe(self._path, threads=1, timeout=self._timeout)
        packets = info.packets
        assert packets is not None
        inside = [index for index in indices if index < info.num_frames]
        if not inside:
            return
        self._damage.requested = max(self._damage.requested, len(inside))
        last: Frame | None = None
        count = 0
        for read in (self._spans, self.one_pass):
            with contextlib.closing(read(packets, inside[count:])) as frames:
                for last in frames:
                    count += 1
                    yield last
            if count == len(inside):
                return
        yield from self._nearest(packets, inside[count:], last)

    def _spans(self, packets: PacketList, indices: list[int]) -> Frames:
        """Yields the frames at `indices` from spans, until a span cannot be trusted."""
        order, ticks = packets.decode_order, packets.ticks[indices].tolist()
        if order is None or len(set(ticks)) < len(ticks):
            self._explain(obstacle(packets))
            return
        side = self._side
        frame_bytes = order.frame_bytes if side is None else 3 * side * side
        with PacketBytes(self._path, order) as roles:
            plan = plan_read(
                packets,
                ticks,
                roles,
                workers=self._threads,
                max_frames=max_span_frames(frame_bytes, self._threads),
            )
        if not plan.spans:
            self._explain(plan.reason)
            return
        account.count("spans decoded", len(plan.spans))
        reader = SpanReader(
            self._path,
            packets,
            size=self._scaled,
            transform=self._resized,
            workers=min(self._threads, len(plan.spans)),
            timeout=self._timeout,
        )
        try:
            with contextlib.closing(reader.frames(plan.spans)) as frames:
                for expected, (tick, frame) in zip(ticks, frames, strict=False):
                    if tick != expected:
                        raise SpanError("its spans overlap")
                    yield frame
        except SpanError as error:
            self._explain(str(error))

    def _explain(self, reason: str) -> None:
        """States why frames are decoded in one pass."""
        logger.info("%s: decoded in one pass: %s", self._path, reason)
        account.count(f"files decoded in one pass ({reason})", 1)

    def _resized(self, frame: Frame) -> Frame:
        if self._side is None or self._scaled is not None:
            return frame
        return resize_bicubic(frame, self._side)

    def one_pass(self, packets: PacketList, indices: list[int]) -> Frames:
        """Yields the frames at `indices`, decoded from the beginning, until one is missing."""
        frames = self._decoded_pass(packets, indices)
        if self._side is None or self._scaled is not None:
            return frames
        return resized(frames, self._side, workers=self._threads)

    def _decoded_pass(self, packets: PacketList, indices: list[int]) -> Frames:
        keys = frame_keys(packets, indices)
        values = sorted({value for value, _ in keys})
        copies = [np.searchsorted(packets.ticks, values, side) for side in ("left", "right")]
        source = timed_frames(
            self._path,
            packets,
            values,
            count=int((copies[1] - copies[0]).sum()) if packets.is_timed else len(values),
            size=self._scaled,
            damage=self._damage,
            threads=min(self._threads, MAX_THREADS),
            timeout=self._timeout,
        )
        waiting = collections.deque(keys)
        early: dict[tuple[int, int], Frame] = {}
        seen: collections.Counter[int] = collections.Counter()
        with contextlib.closing(source):
            while len(early) <= MAX_EARLY:
                tick, frame = next(source, (None, None))
                self._require_few(packets)
                if frame is None:
                    return
                value = waiting[0][0] if tick is None else tick
                early[value, seen[value]] = frame
                seen[value] += 1
                while waiting and waiting[0] in early:
                    yield early.pop(waiting.popleft())
                early = {key: frame for key, frame in early.items() if waiting and key > waiting[0]}

    def _nearest(self, packets: PacketList, indices: list[int], last: Frame | None) -> Frames:
        """Yields, for each of `indices`, the nearest frame that can be decoded.

        Args:
            last: the last frame that was decoded, for streams whose frames are only counted.
        """
        if not packets.is_timed:
            self._damage.lost.update(indices)
            self._require_few(packets)
            if last is None:
                raise self._undecodable()
            yield from itertools.repeat(last, len(indices))
            return
        ticks = decodable_ticks(
            self._path,
            packets,
            damage=self._damage,
            threads=min(self._threads, MAX_THREADS),
            timeout=self._timeout,
        )
        if not len(ticks):
            raise self._undecodable()
        targets = nearest_frames(packets, indices, ticks)
        self._damage.lost.update(lost_frames(packets, indices, ticks))
        self._require_few(packets)
        decodable = dataclasses.replace(packets, ticks=ticks)
        with contextlib.closing(self.one_pass(decodable, sorted(set(targets)))) as frames:
            for _, repeats in itertools.groupby(targets):
                frame = next(frames, None)
                if frame is None:
                    raise self._undecodable()
                yield from (frame for _ in repeats)

    def _require_few(self, packets: PacketList) -> None:
        self._damage.require_below(self._max_damaged, self._path, num_frames=len(packets.ticks))

    def _undecodable(self) -> VideoError:
        return VideoError(
            self._path, "no requested frame can be decoded: damaged", ffmpeg.COPY_AGAIN
        )


def find_damage(info: VideoInfo, damage: Damage, *, threads: int, timeout: float) -> None:
    """Decodes a whole video file and records its damage, without delivering pixels."""
    packets = info.packets
    assert packets is not None
    ticks = decodable_ticks(info.path, packets, damage=damage, threads=threads, timeout=timeout)
    if not packets.is_timed:
        damage.lost.update(range(len(ticks), len(packets.ticks)))
    elif not len(ticks):
        damage.lost.update(range(len(packets.ticks)))
    else:
        indices = list(range(len(packets.ticks)))
        damage.lost.update(lost_frames(packets, indices, ticks))


def frame_keys(packets: PacketList, indices: Sequence[int]) -> list[tuple[int, int]]:
    """Returns (tick, copy) of the frames at `indices`; `copy` counts frames of equal time.

    Streams without times have the key (frame number, 0).
    """
    if not packets.is_timed:
        return [(index, 0) for index in indices]
    ticks = packets.ticks[indices]
    copies = np.array(indices) - np.searchsorted(packets.ticks, ticks)
    return list(zip(ticks.tolist(), copies.tolist(), strict=True))


def nearest_frames(
    packets: PacketList, indices: Sequence[int], ticks: NDArray[np.int64]
) -> list[int]:
    """Returns, for each frame of `indices`, the position in `ticks` of the nearest.

    If as many frames were decoded as there are packets, none is lost, and frames correspond in
    order even where their times differ.

    Args:
        ticks: sorted ticks of the frames that can be decoded.
    """
    if len(ticks) == len(packets.ticks):
        return list(indices)
    wanted, copies = np.array(frame_keys(packets, indices)).T
    left, right = (np.searchsorted(ticks, wanted, side) for side in ("left", "right"))
    before = np.clip(left - 1, 0, None)
    after = np.clip(left, None, len(ticks) - 1)
    closest = np.where(wanted - ticks[before] <= abs(ticks[after] - wanted), before, after)
    return np.where(right > left, left + np.minimum(copies, right - left - 1), closest).tolist()


def lost_frames(packets: PacketList, indices: Sequence[int], ticks: NDArray[np.int64]) -> list[int]:
    """Returns those of `indices` that have no frame among `ticks`; see `nearest_frames`."""
    if len(ticks) == len(packets.ticks):
        return []
    targets = nearest_frames(packets, indices, ticks)
    is_lost = ticks[targets] != packets.ticks[list(indices)]
    return np.array(indices)[is_lost].tolist()
