"""The evidence of an answer: what of the video it was drawn from, and what it cost."""

from __future__ import annotations

import time

from xcomp_jax.evidence import Cost, Evidence, Thumbnail, make_thumbnails
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.encoded_video import EncodedVideo

UNITS = {"encode": "clips encoded", "watch windows": "windows watched", "read": "text rows"}
"""Step of the account -> the work it did."""


def evidence_of(memory: EncodedVideo, answer: Answer, *, model: str) -> Evidence:
    """Everything a page about one answer shows; thumbnails are decoded again from the file.

    Raises:
        VideoError: the file cannot be read any more.
    """
    plan = memory.plan
    selected_frames = (
        tuple(range(memory.num_frames))
        if answer.selected_frames is None
        else answer.selected_frames
    )
    scores = None if answer.scores is None else tuple(map(float, answer.scores))
    begin = time.perf_counter()
    thumbnails: tuple[Thumbnail, ...] = ()
    if memory.path is not None:
        thumbnails = make_thumbnails(memory.path, plan.indices, plan.times, selected_frames, scores)
    costs = [
        Cost(name, seconds, answer.work.get(UNITS.get(name, "")), UNITS.get(name, ""))
        for name, seconds in answer.seconds.items()
    ]
    costs += [
        Cost(name, None, count, "")
        for name, count in answer.work.items()
        if count and name not in UNITS.values()
    ]
    if thumbnails:
        costs.append(Cost("thumbnails", time.perf_counter() - begin, len(thumbnails), "pictures"))
    return Evidence(
        video=memory.name,
        duration=max(plan.duration, plan.times[-1] if plan.times else 0.0),
        question=answer.question,
        answer=answer.text,
        model=model,
        frame_times=plan.times,
        frame_scores=scores,
        selected_frames=selected_frames,
        selection=_settings(memory),
        costs=tuple(costs),
        thumbnails=thumbnails,
    )


def _settings(memory: EncodedVideo) -> dict[str, str | int | float]:
    config, windows = memory.selection, memory.windows
    if config is None or windows is None or memory.select is None:
        return {}
    return {
        "frames kept": memory.select,
        "windows": len(windows.starts),
        "frames of a window": windows.length,
        "repeats": config.repeats,
        "scope": config.scope,
        "clips of a segment": config.segment_clips,
        "clips between segments": config.segment_stride,
        "granularity": config.granularity,
    }
