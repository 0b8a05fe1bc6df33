"""Plans which packets of a video are decoded for a set of frames, and in which spans. Pure.

Frames between two starts of decoding form a group. Groups without a requested frame are skipped;
the others are joined into spans of about equal cost, each for one decoder process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video.access_points import CODECS, Access
from xcomp_jax.video.decode_order import KEY, DecodeOrder
from xcomp_jax.video.packets import PacketList

PROCESS_SECONDS = 0.06
"""CPU time of starting ffmpeg, opening the file and seeking; an estimate, which only cuts spans."""

BYTE_SECONDS = 6e-10
"""CPU time of decoding a frame, per byte of RGB."""

SKIP_SECONDS = 6e-6
"""CPU time of reading a packet that is not decoded."""

MIN_SPAN_SECONDS = 0.5
SPANS_PER_WORKER = 4
"""Smaller and more spans balance better, but each starts a process."""

MIN_SAVING = 0.2
"""Least share of the CPU time that spans must save over one pass."""

TAIL = 8
"""Packets decoded after a span's last frame, which a decoder holds back to reorder."""

SEEKABLE = ("mov", "matroska")
"""Containers in which ffmpeg finds any key frame by an index of presentation times."""


class PacketRoles(Protocol):
    """Tells the role of packets, by their numbers in decode order."""

    def access(self, number: int) -> Access | None:
        """Returns how decoding can start at a packet; None if it cannot."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Packets `first` to `last` in decode order, from a start of decoding to a requested frame."""

    first: int
    last: int
    ticks: tuple[int, ...]
    access: Access


@dataclasses.dataclass(frozen=True)
class Span:
    """Groups that one decoder process reads.

    Attributes:
        seeks: the process seeks to the first group; otherwise it skips packets from the beginning.
    """

    groups: tuple[Group, ...]
    seeks: bool

    @property
    def ticks(self) -> list[int]:
        """Times of the requested frames, rising."""
        return sorted(tick for group in self.groups for tick in group.ticks)


@dataclasses.dataclass(frozen=True)
class ReadPlan:
    """Spans in the order of their frames; without spans, the reason to decode in one pass."""

    spans: tuple[Span, ...] = ()
    reason: str = ""


def plan_read(
    packets: PacketList,
    ticks: Sequence[int],
    roles: PacketRoles,
    *,
    workers: int,
    max_frames: int,
) -> ReadPlan:
    """Plans the spans of the frames at `ticks`.

    Args:
        ticks: times of the requested frames, rising and distinct.
        workers: number of decoder processes side by side.
        max_frames: largest number of frames of a span.
    """
    if reason := obstacle(packets):
        return ReadPlan(reason=reason)
    order = packets.decode_order
    assert order is not None
    groups = group_frames(packets, ticks, roles)
    if not groups:
        return ReadPlan(reason="its key frames are no certain starts of decoding")
    frame_seconds = max(order.frame_bytes * BYTE_SECONDS, SKIP_SECONDS)
    seeks = order.container.startswith(SEEKABLE)
    starts = [0.0 if seeks else group.first * SKIP_SECONDS for group in groups]
    costs = [(group.last + 1 - group.first) * frame_seconds for group in groups]
    target = max(MIN_SPAN_SECONDS, sum(costs) / (workers * SPANS_PER_WORKER))
    spans = [
        Span(tuple(groups[first:last]), seeks and groups[first].first > 0)
        for first, last in _cuts(groups, costs, target, max_frames)
    ]
    numbers = [groups.index(span.groups[0]) for span in spans]
    overhead = sum(PROCESS_SECONDS + TAIL * frame_seconds + starts[number] for number in numbers)
    decoded = max(group.last for group in groups) + 1
    one_pass = PROCESS_SECONDS + decoded * frame_seconds
    if sum(costs) + overhead > (1 - MIN_SAVING) * one_pass:
        return ReadPlan(reason="most of its frames are needed")
    return ReadPlan(tuple(spans))


def obstacle(packets: PacketList) -> str:
    """Returns why frames of this stream are decoded in one pass; empty if spans may exist."""
    order = packets.decode_order
    if order is None:
        return "it is damaged"
    if not packets.is_timed:
        return "its packets have no presentation times"
    if order.codec not in CODECS:
        return f"frames of codec {order.codec or 'unknown'} are decoded from the beginning"
    if (order.sizes == 0).any():
        return "it has empty packets"
    if order.codec != "vp8" and len(np.unique(order.ticks)) < len(order):
        return "several of its packets have the same time"
    return ""


def group_frames(packets: PacketList, ticks: Sequence[int], roles: PacketRoles) -> list[Group]:
    """Returns the groups that hold the frames at `ticks`; none if a frame belongs to none.

    A frame that is presented before the start of decoding in front of it belongs to an earlier
    group, since it may refer to that group's frames.
    """
    order = packets.decode_order
    assert order is not None
    keys = np.flatnonzero(order.flags & KEY)
    numbers = order.numbers(ticks).tolist()
    known: dict[int, Access | None] = {}
    members: dict[int, list[tuple[int, int]]] = {}
    for tick, number in zip(ticks, numbers, strict=True):
        position = int(np.searchsorted(keys, number, "right")) - 1
        while position >= 0:
            start = int(keys[position])
            if order.ticks[start] <= tick:
                if start not in known:
                    known[start] = roles.access(start)
                if known[start] is not None:
                    break
            position -= 1
        if position < 0:
            return []
        members.setdefault(start, []).append((tick, number))
    groups = []
    for start, frames in sorted(members.items()):
        kind = known[start]
        assert kind is not None
        last = max(number for _, number in frames)
        groups.append(Group(start, last, tuple(tick for tick, _ in frames), kind))
    return groups


def _cuts(
    groups: Sequence[Group], costs: Sequence[float], target: float, max_frames: int
) -> Iterator[tuple[int, int]]:
    """Yields (first, one past the last) group of each span."""
    first, cost, frames = 0, 0.0, 0
    for number, group in enumerate(groups):
        # Behind a gap, a decoder at work cannot start at an open group.
        needs_start = (
            number > first
            and group.access is Access.OPEN
            and group.first > groups[number - 1].last + 1
        )
        is_full = cost >= target or frames + len(group.ticks) > max_frames
        if number > first and (needs_start or is_full):
            yield first, number
            first, cost, frames = number, 0.0, 0
        cost += costs[number]
        frames += len(group.ticks)
    yield first, len(groups)


def kept_packets(
    packets: PacketList, span: Span, unreferenced: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the numbers of the packets that a span's process decodes, rising.

    Args:
        unreferenced: numbers of packets that are decoded only if their own frame is requested.
    """
    order = packets.decode_order
    assert order is not None
    first, last = span.groups[0], span.groups[-1].last
    ranges = [np.arange(group.first, group.last + 1) for group in span.groups]
    needed = np.setdiff1d(np.concatenate(ranges), unreferenced)
    tail = np.arange(last + 1, min(last + 1 + TAIL, len(order)))
    kept = np.unique(np.concatenate([needed, order.numbers(span.ticks), tail]))
    if first.access is Access.OPEN:
        kept = kept[order.ticks[kept] >= order.ticks[first.first]]
    return kept


def kept_runs(order: DecodeOrder, kept: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Returns the intervals of time, as (first, last) tick, that hold exactly the kept packets.

    Packets of equal time are kept together.
    """
    ranks = np.sort(order.ranks[kept])
    starts = np.flatnonzero(np.diff(ranks, prepend=-2) > 1)
    ends = np.append(starts[1:], len(ranks)) - 1
    times = order.ticks[order.by_time[ranks]].tolist()
    runs: list[tuple[int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if runs and runs[-1][1] == times[start]:
            runs[-1] = (runs[-1][0], times[end])
        else:
            runs.append((times[start], times[end]))
    return runs
