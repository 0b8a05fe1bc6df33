"""Writes chat completions in OpenAI's schema: as one object, or as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request

from xcomp_jax.serving.chat import Completion
from xcomp_jax.serving.errors import ApiError, AsciiJson, api_error_of

POLL_SECONDS = 0.25


async def completion_object(completion: Completion, model: str, request: Request) -> dict[str, Any]:
    """Waits for the whole answer; ends when the client goes away."""
    reason = await _finish_reason(completion, request)
    message = {"role": "assistant", "content": completion.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": model,
        "choices": [choice],
        "usage": completion.usage(),
        "xcomp": completion.facts(),
    }


async def _finish_reason(completion: Completion, request: Request) -> str | None:
    async def answer() -> str | None:
        reason = None
        async for delta in completion.deltas():
            reason = delta.finish_reason or reason
        return reason

    task = asyncio.ensure_future(answer())
    try:
        while not (await asyncio.wait([task], timeout=POLL_SECONDS))[0]:
            if await request.is_disconnected():
                raise ApiError(499, "the client went away")
        return task.result()
    finally:
        task.cancel()


async def completion_events(completion: Completion, model: str) -> AsyncIterator[bytes]:
    """Yields one event per piece of the answer; an error becomes the last event but one."""
    usage = {"usage": None} if completion.job.include_usage else {}

    def content(delta: dict[str, str]) -> bytes:
        return _chunk(completion, model, [_choice(delta, None)], **usage)

    try:
        async with completion, contextlib.aclosing(completion.deltas()) as deltas:
            yield content({"role": "assistant", "content": ""})
            async for delta in deltas:
                if delta.text is None:
                    yield b": waiting\n\n"
                elif delta.finish_reason is None:
                    yield content({"content": delta.text})
                else:
                    if delta.text:
                        yield content({"content": delta.text})
                    end = [_choice({}, delta.finish_reason)]
                    yield _chunk(completion, model, end, xcomp=completion.facts(), **usage)
            if completion.job.include_usage:
                yield _chunk(completion, model, [], usage=completion.usage())
    except Exception as error:
        body = api_error_of(error).body()
        yield f"data: {json.dumps(body)}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _chunk(
    completion: Completion, model: str, choices: list[dict[str, Any]], **fields: Any
) -> bytes:
    chunk = {
        "id": completion.id,
        "object": "chat.completion.chunk",
        "created": completion.created,
        "model": model,
        "choices": choices,
        **fields,
    }
    return b"data: " + AsciiJson(chunk).body + b"\n\n"


def _choice(delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
