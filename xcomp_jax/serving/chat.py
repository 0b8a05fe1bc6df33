"""Answers chat completions: waits for the video, asks the device, and streams the text."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from anyio import to_thread

from xcomp_jax.inference.request import check_length
from xcomp_jax.serving.answer_text import AnswerText
from xcomp_jax.serving.chat_request import ChatJob
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.ids import random_id
from xcomp_jax.serving.question import Event, Failure, Question
from xcomp_jax.serving.services import Services
from xcomp_jax.serving.video import Source, Video
from xcomp_jax.text.conversation import conversation_ids

KEEP_ALIVE_SECONDS = 5.0
"""Longest silence of a stream; proxies close silent connections."""


@dataclasses.dataclass
class Delta:
    """New text of an answer; with `finish_reason`, the last one. None is a sign of life."""

    text: str | None
    finish_reason: str | None = None


class Completion:
    """One chat completion in progress; an async context manager, whose exit cancels its work."""

    def __init__(self, services: Services, job: ChatJob, owner: str) -> None:
        self.id = random_id("chatcmpl")
        self.created = int(time.time())
        self.job = job
        self._services, self._owner = services, owner
        self._begin = time.perf_counter()
        self._watch_seconds = 0.0
        self._watched_frames = 0
        self._video: Video | None = None
        self._question: Question | None = None
        self._text = AnswerText(services.session.tokenizer, job.stop)
        self._prompt_tokens = 0

    async def __aenter__(self) -> Completion:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._question is not None and not self._question.stopped:
            self._question.cancelled = True

    async def find_video(self) -> Video:
        """Finds or queues the video; refuses requests that cannot be served."""
        services, job = self._services, self.job
        source = await to_thread.run_sync(
            lambda: services.resolver.find(job.media, owner=self._owner)
        )
        self._video = self._video_of(source)
        return self._video

    def _video_of(self, source: Source | Video) -> Video:
        job, library = self.job, self._services.library
        frames = job.frames
        if isinstance(source, Video):
            if frames.is_default and job.select is None:
                return source
            frames = source.frames if frames.is_default else frames
            select = source.select if job.select is None else job.select
            return library.add(source.source, frames, select, source.name)
        if source.is_list and frames.num_frames is None and frames.max_frames is None:
            frames = type(frames)()  # The rate is that of the list.
        return library.add(source, frames, job.select)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """Yields the answer's text as it is generated, and signs of life while it waits."""
        video = self._video or await self.find_video()
        begin = time.perf_counter()
        was_ready = video.state == "ready"
        async for delta in _alive(video.wait()):
            yield delta
        if not was_ready:
            self._watch_seconds = time.perf_counter() - begin
            self._watched_frames = video.frames_encoded
        events: asyncio.Queue[Event] = asyncio.Queue()
        question = self._question = await to_thread.run_sync(
            self._new_question, video, events, asyncio.get_running_loop()
        )
        self._services.device.ask(question)
        while True:
            try:
                event = await asyncio.wait_for(events.get(), KEEP_ALIVE_SECONDS)
            except TimeoutError:
                self._check_time()
                yield Delta(None)
                continue
            if isinstance(event, Failure):
                raise event.error
            new = self._text.add(event.ids, is_last=event.is_last)
            if event.is_last or self._text.is_stopped:
                question.stopped = self._text.is_stopped
                yield Delta(new, self._finish_reason(event.ids))
                self._record()
                return
            self._check_time()
            if new:
                yield Delta(new)

    def _new_question(
        self, video: Video, events: asyncio.Queue[Event], loop: asyncio.AbstractEventLoop
    ) -> Question:
        """Tokenizes the conversation, which needs the video's duration and number of frames."""
        session, job = self._services.session, self.job
        encoded = video.encoded
        if encoded is None:
            raise ApiError(404, f"video {video.id} was deleted", code="not_found")
        prefix, suffix = conversation_ids(
            session.tokenizer, job.turns, job.video_turn, encoded.plan.message
        )
        check_length(prefix, session.generation.max_text_tokens)
        check_length(suffix, session.generation.max_text_tokens)
        scored = session.text_after(encoded, job.first_question)
        self._prompt_tokens = len(prefix) + len(suffix)

        def emit(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        return Question(
            video=video,
            prefix_ids=tuple(prefix),
            ids=tuple(suffix),
            scored_ids=tuple(scored),
            generation=job.generation,
            seed=job.seed,
            emit=emit,
        )

    def _check_time(self) -> None:
        limit = self._services.config.limits.request_seconds
        if time.perf_counter() - self._begin > limit:
            raise ApiError(
                408, f"the answer takes longer than {limit:g} s, the limit", code="timeout"
            )

    def _finish_reason(self, last_ids: tuple[int, ...]) -> str:
        ends = self.job.generation.eos_token_ids
        is_end = self._text.is_stopped or (last_ids and last_ids[-1] in ends)
        return "stop" if is_end else "length"

    def _record(self) -> None:
        question, metrics = self._question, self._services.metrics
        assert question is not None
        metrics.observe_answer(
            question.seconds.get("first_token", 0.0), time.perf_counter() - self._begin
        )
        metrics.prompt_tokens.inc(self._prompt_tokens)
        metrics.reused_tokens.inc(question.reused)
        metrics.generated_tokens.inc(self._text.num_tokens)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._text.text

    def usage(self) -> dict[str, Any]:
        """Returns OpenAI's usage; visual tokens count as part of the prompt."""
        visual = self._visual_tokens()
        generated = self._text.num_tokens
        reused = 0 if self._question is None else self._question.reused
        return {
            "prompt_tokens": self._prompt_tokens + visual,
            "completion_tokens": generated,
            "total_tokens": self._prompt_tokens + visual + generated,
            "prompt_tokens_details": {"cached_tokens": reused, "video_tokens": visual},
        }

    def _frames_seen(self) -> tuple[int, ...]:
        assert self._video is not None
        assert self._video.plan is not None
        question = self._question
        if question is not None and question.frames is not None:
            return question.frames
        return tuple(range(len(self._video.plan.indices)))

    def _visual_tokens(self) -> int:
        per_frame = self._services.session.config.projector.tokens_per_frame
        return len(self._frames_seen()) * per_frame

    def facts(self) -> dict[str, Any]:
        """Returns the `xcomp` object: frames, scores and costs of the answer."""
        video, question = self._video, self._question
        assert video is not None
        assert question is not None
        assert video.plan is not None
        seen = self._frames_seen()
        scores = question.scores
        encoded = self._watched_frames + question.encoded_frames
        seconds = {name: question.seconds.get(name, 0.0) for name in ("score", "prefill", "decode")}
        return {
            "video": video.id,
            "frames_seen": len(seen),
            "frames_sampled": len(video.plan.indices),
            "sampling": video.rule,
            "frames": [
                {
                    "index": index,
                    "time": video.plan.times[index],
                    "score": None if scores is None else float(scores[index]),
                }
                for index in seen
            ],
            "selected": list(seen),
            "seconds": {
                "watch": self._watch_seconds,
                **seconds,
                "total": time.perf_counter() - self._begin,
            },
            "frames_encoded": encoded,
            "frames_reused": max(0, len(seen) - encoded),
            "prefix_tokens_reused": question.reused,
            "ignored": list(self.job.ignored),
        }


async def _alive(waiting: Any) -> AsyncIterator[Delta]:
    """Waits for a coroutine and yields signs of life meanwhile."""
    task = asyncio.ensure_future(waiting)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=KEEP_ALIVE_SECONDS)
            if done:
                task.result()
                return
            yield Delta(None)
    finally:
        task.cancel()
