"""Routes of videos: `/v1/videos`."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, Response

from xcomp_jax.evidence.thumbnails import encode_thumbnail
from xcomp_jax.serving.chat_models import Count, Rate, Select
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.frame_request import FrameRequest
from xcomp_jax.serving.injection import AppKeys, AppServices
from xcomp_jax.serving.scores import score_video
from xcomp_jax.serving.security import Keys
from xcomp_jax.serving.video import Source, Video
from xcomp_jax.video.decode import read_frames

router = APIRouter(prefix="/v1/videos", tags=["videos"])

MAX_WIDTH = 1280


class NewVideo(BaseModel):
    """Names a video to watch: an uploaded file, or a URL as in a chat completion."""

    model_config = ConfigDict(extra="ignore")
    file_id: str | None = None
    url: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    num_frames: Count | None = None
    fps: Rate | None = None
    max_frames: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    select: Select | None = None


@router.post("", status_code=202)
async def create_video(body: NewVideo, services: AppServices, keys: AppKeys) -> dict[str, Any]:
    """Watches a video; poll GET /v1/videos/{id} for its progress."""
    if (body.file_id is None) == (body.url is None):
        raise ApiError(400, "pass either file_id or url", param="file_id")
    if body.num_frames == 0:
        raise ApiError(400, "num_frames=0 asks for no frame", param="num_frames")
    frames = FrameRequest(
        None if body.num_frames == -1 else body.num_frames, body.fps, body.max_frames
    )
    source: Source | Video
    if body.file_id is not None:
        source = services.resolver.file(body.file_id)
    else:
        assert body.url is not None
        source = await to_thread.run_sync(services.resolver.url, body.url)
    if isinstance(source, Video):
        source = source.source
    library = services.library
    video = await to_thread.run_sync(library.add, source, frames, body.select, body.name)
    return _video_object(video, keys)


@router.get("")
async def list_videos(services: AppServices, keys: AppKeys) -> dict[str, Any]:
    """Lists all videos, newest first."""
    videos = services.library.all()
    return {"object": "list", "data": [_video_object(video, keys) for video in videos]}


@router.get("/{video_id}")
async def get_video(video_id: str, services: AppServices, keys: AppKeys) -> dict[str, Any]:
    """Describes a video with its progress."""
    return _video_object(services.library.get(video_id), keys)


@router.delete("/{video_id}")
async def delete_video(video_id: str, services: AppServices) -> dict[str, Any]:
    """Removes a video from the list; an uploaded file stays."""
    services.library.delete(video_id)
    services.device.forget(video_id)
    return {"id": video_id, "object": "video", "deleted": True}


@router.get("/{video_id}/content", response_class=FileResponse)
async def get_content(video_id: str, services: AppServices) -> Response:
    """Returns the video's bytes; supports Range."""
    video = services.library.get(video_id)
    if video.source.path.is_dir() or not video.source.path.is_file():
        raise ApiError(404, "the video is a list of frames, which has no bytes to play")
    is_media = video.content_type.partition("/")[0] in ("video", "image")
    return FileResponse(
        video.source.path,
        media_type=video.content_type if is_media else "application/octet-stream",
        content_disposition_type="inline" if is_media else "attachment",
        filename=video.name,
    )


@router.get("/{video_id}/frames/{index}.jpg", response_class=Response)
async def get_frame(
    video_id: str,
    index: Annotated[int, Path(ge=0, le=1 << 30)],
    services: AppServices,
    width: Annotated[int, Query(ge=16, le=MAX_WIDTH)] = 160,
) -> Response:
    """Returns one sampled frame as JPEG."""
    video = services.library.get(video_id)
    if video.plan is None or video.info is None or index >= len(video.plan.indices):
        raise ApiError(404, f"there is no sampled frame {index}", param="index")
    info, number = video.info, video.plan.indices[index]

    def decoded() -> bytes:
        with contextlib.closing(read_frames(info, [number], max_damaged=1.0)) as frames:
            return encode_thumbnail(index, next(frames), width=width).jpeg

    async with services.decoding:
        jpeg = await to_thread.run_sync(decoded)
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(jpeg, media_type="image/jpeg", headers=headers)


@router.get("/{video_id}/scores")
async def get_scores(
    video_id: str, q: Annotated[str, Query(min_length=1, max_length=4096)], services: AppServices
) -> dict[str, Any]:
    """Scores every sampled frame for a question."""
    return await score_video(services, services.library.get(video_id), q)


def _video_object(video: Video, keys: Keys) -> dict[str, Any]:
    token = keys.media_token(video.id)
    query = f"?token={token}" if token else ""
    return {
        **video.to_dict(),
        "content_url": f"/v1/videos/{video.id}/content{query}",
        "frame_url": f"/v1/videos/{video.id}/frames/{{index}}.jpg{query}",
    }
