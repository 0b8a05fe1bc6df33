"""Compute the time of reading a video on many cores from spans that are measured one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.launch.bench.video_peer import indices
from xcomp_jax.video.packet_bytes import PacketBytes
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.read_plan import Span, plan_read
from xcomp_jax.video.span_process import span_frames
from xcomp_jax.video.span_reader import max_span_frames


def measure(path: Path, count: int, size: int, workers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields a row per number of workers.

    The spans of that number's plan run alone, one after another, each on one core; the seconds of
    the plan follow from the order in which workers take them.

    Args:
        size: side of resized frames; 0 for native ones.
    """
    info = probe(path.absolute())
    for number in workers:
        spans = _plan(info, count, size, number)
        seconds = [_seconds(info, span, size) for span in spans]
        total = scheduled_seconds(seconds, number)
        yield {
            "video": path.name,
            "frames": count,
            "workers": number,
            "spans": len(spans),
            "seconds of all spans": round(sum(seconds), 2),
            "longest span": round(max(seconds, default=0.0), 2),
            "computed seconds": round(total, 2),
            "computed / ideal": round(total * number / max(sum(seconds), 1e-9), 2),
        }


def scheduled_seconds(seconds: Sequence[float], workers: int) -> float:
    """Returns when the last span ends if each free worker takes the next span.

    At most `2 * workers` spans are in progress: a span starts once the span `2 * workers` before
    it, and all before that, have ended.
    """
    free = [0.0] * workers
    ends: list[float] = []
    for number, cost in enumerate(seconds):
        waited = max(ends[: max(0, number - 2 * workers + 1)], default=0.0)
        worker = min(range(workers), key=lambda index: free[index])
        free[worker] = max(free[worker], waited) + cost
        ends.append(free[worker])
    return max(ends, default=0.0)


def _plan(info: VideoInfo, count: int, size: int, workers: int) -> tuple[Span, ...]:
    packets = info.packets
    assert packets is not None
    if packets.decode_order is None:
        raise ValueError(f"{info.path} is damaged, so it has no spans; use another file")
    numbers = indices(count, info.num_frames)
    frame_bytes = 3 * size * size if size else packets.decode_order.frame_bytes
    with PacketBytes(info.path, packets.decode_order) as roles:
        plan = plan_read(
            packets,
            packets.ticks[numbers].tolist(),
            roles,
            workers=workers,
            max_frames=max_span_frames(frame_bytes, workers),
        )
    if not plan.spans:
        raise ValueError(f"{info.path} is read in one pass ({plan.reason}); use another file")
    return plan.spans


def _seconds(info: VideoInfo, span: Span, size: int) -> float:
    assert info.packets is not None
    began = time.perf_counter()
    frames = span_frames(
        *(info.path, info.packets, span),
        size=None,
        threads=1,
        timeout=600.0,
        started=lambda process: None,
    )
    for _, frame in frames:
        if size:
            resize_bicubic(frame, size)
    return time.perf_counter() - began
