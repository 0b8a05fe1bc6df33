"""Routes of models and chat completions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from xcomp_jax.serving.chat import Completion
from xcomp_jax.serving.chat_models import ChatRequest
from xcomp_jax.serving.chat_request import list_rate, read_chat
from xcomp_jax.serving.errors import ApiError, AsciiJson, api_error_of
from xcomp_jax.serving.services import Services

POLL_SECONDS = 0.25


def chat_routes(services: Services) -> APIRouter:
    """Returns the routes of models and chat completions."""
    router = APIRouter(prefix="/v1", tags=["chat"])
    config, session = services.config, services.session

    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        """Lists the model that this server runs."""
        return {"object": "list", "data": [_model()]}

    @router.get("/models/{model_id:path}")
    async def get_model(model_id: str) -> dict[str, Any]:
        """Describes a model."""
        _check_model(model_id, config.model)
        return _model()

    def _model() -> dict[str, Any]:
        return {
            "id": config.model,
            "object": "model",
            "created": services.created,
            "owned_by": "xcomp",
            "xcomp": {
                "max_frames": config.limits.max_frames,
                "clip_frames": session.config.vision.clip_frames,
                "select_default": None if session.selection is None else session.selection.select,
                "examples": services.examples,
                "upload_limit_bytes": config.limits.max_upload_bytes,
                "note": config.note,
            },
        }

    @router.post("/chat/completions", response_model=None)
    async def create_completion(body: ChatRequest, request: Request) -> dict[str, Any] | Response:
        """Answers a question about a video; with `stream`, as server-sent events."""
        if services.is_draining:
            raise ApiError(503, "the server stops", code="stopping", retry_after=10)
        if body.model:
            _check_model(body.model, config.model)
        job = read_chat(body, session.generation, config.limits)
        completion = Completion(services, job, request.state.owner, list_rate(body))
        # Before the first byte, so that a refusal has its own status.
        await completion.find_video()
        if job.stream:
            return StreamingResponse(_stream(completion), media_type="text/event-stream")
        async with completion:
            return await _complete(completion, request)

    async def _complete(completion: Completion, request: Request) -> dict[str, Any]:
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
            reason = task.result()
        finally:
            task.cancel()
        message = {"role": "assistant", "content": completion.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {
            "id": completion.id,
            "object": "chat.completion",
            "created": completion.created,
            "model": config.model,
            "choices": [choice],
            "usage": completion.usage(),
            "xcomp": completion.facts(),
        }

    def _chunk(completion: Completion, choices: list[dict[str, Any]], **fields: Any) -> bytes:
        content = {
            "id": completion.id,
            "object": "chat.completion.chunk",
            "created": completion.created,
            "model": config.model,
            "choices": choices,
            **fields,
        }
        return b"data: " + AsciiJson(content).body + b"\n\n"

    def _choice(delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    async def _stream(completion: Completion) -> AsyncIterator[bytes]:
        usage = {"usage": None} if completion.job.include_usage else {}
        try:
            async with completion, contextlib.aclosing(completion.deltas()) as deltas:
                first = {"role": "assistant", "content": ""}
                yield _chunk(completion, [_choice(first, None)], **usage)
                async for delta in deltas:
                    if delta.text is None:
                        yield b": waiting\n\n"
                    elif delta.finish_reason is None:
                        yield _chunk(completion, [_choice({"content": delta.text}, None)], **usage)
                    else:
                        if delta.text:
                            text = {"content": delta.text}
                            yield _chunk(completion, [_choice(text, None)], **usage)
                        end = [_choice({}, delta.finish_reason)]
                        yield _chunk(completion, end, xcomp=completion.facts(), **usage)
                if completion.job.include_usage:
                    yield _chunk(completion, [], usage=completion.usage())
        except Exception as error:
            body = api_error_of(error).body()
            yield f"data: {json.dumps(body)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    return router


def _check_model(requested: str, model: str) -> None:
    if requested != model:
        raise ApiError(
            404,
            f"there is no model {requested[:100]!r}; this server runs {model!r}",
            param="model",
            code="model_not_found",
        )
