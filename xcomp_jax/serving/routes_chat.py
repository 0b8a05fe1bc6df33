"""Routes of models and chat completions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from xcomp_jax.serving.chat import Completion
from xcomp_jax.serving.chat_models import ChatRequest
from xcomp_jax.serving.chat_request import read_chat
from xcomp_jax.serving.chat_response import completion_events, completion_object
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.injection import AppServices
from xcomp_jax.serving.services import Services

router = APIRouter(prefix="/v1", tags=["chat"])


@router.get("/models")
async def list_models(services: AppServices) -> dict[str, Any]:
    """Lists the model that this server runs."""
    return {"object": "list", "data": [_model_object(services)]}


@router.get("/models/{model_id:path}")
async def get_model(model_id: str, services: AppServices) -> dict[str, Any]:
    """Describes a model."""
    _check_model(model_id, services.config.model)
    return _model_object(services)


@router.post("/chat/completions", response_model=None)
async def create_completion(
    body: ChatRequest, request: Request, services: AppServices
) -> dict[str, Any] | Response:
    """Answers a question about a video; with `stream`, as server-sent events."""
    config = services.config
    if services.is_draining:
        raise ApiError(503, "the server stops", code="stopping", retry_after=10)
    if body.model:
        _check_model(body.model, config.model)
    job = read_chat(body, services.session.generation, config.limits)
    completion = Completion(services, job, request.state.owner)
    # Before the first byte, so that a refusal has its own status.
    await completion.find_video()
    if job.stream:
        events = completion_events(completion, config.model)
        return StreamingResponse(events, media_type="text/event-stream")
    async with completion:
        return await completion_object(completion, config.model, request)


def _model_object(services: Services) -> dict[str, Any]:
    config, session = services.config, services.session
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


def _check_model(requested: str, model: str) -> None:
    if requested != model:
        raise ApiError(
            404,
            f"there is no model {requested[:100]!r}; this server runs {model!r}",
            param="model",
            code="model_not_found",
        )
