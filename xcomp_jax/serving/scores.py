"""Scores the frames of a video for a question, for timelines."""

from __future__ import annotations

import asyncio
from typing import Any

from anyio import to_thread

from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.question import Event, Failure, Question
from xcomp_jax.serving.services import Services
from xcomp_jax.serving.video import Video


async def score_video(services: Services, video: Video, question: str) -> dict[str, Any]:
    """Returns the scores object of the API.

    A video whose questions use all frames is scored as if half of them were selected.

    Raises:
        ApiError: the video has too few frames, or the question is invalid.
    """
    await video.wait()
    encoded = video.encoded
    if encoded is not None and encoded.windows is None:
        video = await _half_selected(services, video, encoded)
        encoded = video.encoded
    if encoded is None or video.plan is None:
        raise ApiError(404, f"video {video.id} was deleted", code="not_found")
    job = await _scored(services, video, encoded, question)
    assert job.scores is not None
    return {
        "object": "scores",
        "video": video.id,
        "question": question,
        "frames": [
            {"index": index, "time": time, "score": float(score)}
            for index, (time, score) in enumerate(zip(video.plan.times, job.scores, strict=True))
        ],
        "selected": list(job.frames or ()),
        "seconds": job.seconds,
    }


async def _half_selected(services: Services, video: Video, encoded: EncodedVideo) -> Video:
    """Watches the video again with half of its frames to be selected."""
    clip = encoded.clip_frames
    half = max(encoded.num_frames // 2 // clip, 1) * clip
    if half >= encoded.num_frames:
        raise ApiError(
            400,
            f"the video has {encoded.num_frames} sampled frames, one clip, which gives no "
            "timeline; watch it with a larger num_frames",
            code="too_few_frames",
        )
    video = await to_thread.run_sync(
        services.library.add, video.source, video.frames, half, video.name
    )
    await video.wait()
    return video


async def _scored(
    services: Services, video: Video, encoded: EncodedVideo, question: str
) -> Question:
    """Returns the question after the device has scored the frames for it."""
    ids = await to_thread.run_sync(services.session.text_after, encoded, question)
    loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def emit(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    job = Question(
        video=video,
        prefix_ids=(),
        ids=(),
        scored_ids=tuple(ids),
        generation=services.session.generation,
        seed=0,
        emit=emit,
        scores_only=True,
    )
    services.device.ask(job)
    try:
        event = await events.get()
    finally:
        job.cancelled = True
    if isinstance(event, Failure):
        raise event.error
    return job
