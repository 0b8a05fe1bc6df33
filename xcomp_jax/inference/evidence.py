"""Builds the evidence of an answer: selected frames, scores and costs."""

from __future__ import annotations

import time
from pathlib import Path

from xcomp_jax.engine.clips import FileFrames
from xcomp_jax.evidence import Cost, Evidence, Thumbnail, make_thumbnails, shown_name
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.video.probe import VideoInfo

UNITS = {
    "encode clips": "clips encoded",
    "prefill windows": "windows prefilled",
    "score windows": "windows scored",
    "prefill video": "visual tokens prefilled",
    "extend text": "text rows",
}
"""Maps a step of an account to the name of its work."""


def evidence_of(
    video: EncodedVideo, answer: Answer, *, model: str, thumbnails: bool = True
) -> Evidence:
    """Collects the content of a page about one answer.

    Args:
        thumbnails: decode pictures of selected frames from the file.

    Raises:
        VideoError: the file can no longer be read.
    """
    plan = video.plan
    selected = answer.selected_frames
    selected_frames = tuple(range(video.num_frames)) if selected is None else selected
    scores = None if answer.scores is None else tuple(map(float, answer.scores))
    begin = time.perf_counter()
    pictures: tuple[Thumbnail, ...] = ()
    if thumbnails and video.path is not None:
        file = _file(video)
        pictures = make_thumbnails(file, plan.indices, plan.times, selected_frames, scores)
    costs = [
        Cost(step, seconds, answer.work.get(UNITS.get(step, "")), UNITS.get(step, ""))
        for step, seconds in answer.seconds.items()
    ]
    costs += [
        Cost(name, None, count, "")
        for name, count in answer.work.items()
        if count and name not in UNITS.values()
    ]
    if pictures:
        costs.append(Cost("thumbnails", time.perf_counter() - begin, len(pictures), "pictures"))
    return Evidence(
        video=shown_name(video.name),
        duration=max(plan.duration, plan.times[-1] if plan.times else 0.0),
        question=answer.question,
        answer=answer.text,
        model=model,
        frame_times=plan.times,
        frame_scores=scores,
        selected_frames=selected_frames,
        selection=_settings(video),
        costs=tuple(costs),
        wall_seconds=answer.wall_seconds,
        thumbnails=pictures,
        notes=video.notes,
    )


def _file(video: EncodedVideo) -> Path | VideoInfo:
    """Returns the probed file, so that thumbnails show the same stream as the answer."""
    source = video.clips.source
    assert video.path is not None
    return source.video if isinstance(source, FileFrames) else video.path


def _settings(video: EncodedVideo) -> dict[str, str | int | float]:
    config, windows = video.selection, video.windows
    if config is None or windows is None or video.num_selected is None:
        return {}
    return {
        "frames selected": video.num_selected,
        "windows": len(windows.starts),
        "frames per window": windows.length,
        "repeats": config.repeats,
        "scope": config.scope,
        "clips per segment": config.segment_clips,
        "clips between segments": config.segment_stride,
        "granularity": config.granularity,
    }
