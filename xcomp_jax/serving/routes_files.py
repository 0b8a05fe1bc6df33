"""Routes of uploaded files: `/v1/files` and `/v1/uploads`."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.injection import AppServices
from xcomp_jax.serving.multipart import Upload, discard, receive_file
from xcomp_jax.serving.services import Services

router = APIRouter(prefix="/v1", tags=["files"])

Name = Annotated[str, Field(min_length=1, max_length=500)]


class NewUpload(BaseModel):
    """Announces an upload in parts."""

    model_config = ConfigDict(extra="ignore")
    filename: Name
    bytes: Annotated[int, Field(ge=1, le=1 << 50)]
    purpose: Annotated[str, Field(max_length=64)] = "user_data"
    mime_type: str | None = None


class CompleteUpload(BaseModel):
    """Lists the parts in order."""

    model_config = ConfigDict(extra="ignore")
    part_ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]


def _form(field: str) -> dict[str, Any]:
    properties = {
        field: {"type": "string", "format": "binary"},
        "purpose": {"type": "string"},
    }
    schema = {"type": "object", "required": [field], "properties": properties}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


@router.post("/files", openapi_extra=_form("file"))
async def upload_file(request: Request, services: AppServices) -> dict[str, Any]:
    """Uploads a file in one request."""
    upload = await _received(services, request, "file")
    if upload.size == 0:
        discard(services.files, upload)
        raise ApiError(400, "the file is empty", param="file")
    purpose = upload.fields.get("purpose", "user_data")
    return services.files.add(upload.path, upload.filename, purpose).to_dict()


@router.get("/files")
async def list_files(services: AppServices) -> dict[str, Any]:
    """Lists the uploaded files, newest first."""
    return {
        "object": "list",
        "data": [file.to_dict() for file in services.files.all()],
        "has_more": False,
    }


@router.get("/files/{file_id}")
async def get_file(file_id: str, services: AppServices) -> dict[str, Any]:
    """Describes a file."""
    return services.files.get(file_id).to_dict()


@router.get("/files/{file_id}/content", response_class=FileResponse)
async def get_content(file_id: str, services: AppServices) -> FileResponse:
    """Returns a file's bytes."""
    file = services.files.get(file_id)
    if not file.path.is_file():
        raise ApiError(404, f"the content of {file_id} is gone", code="not_found")
    return FileResponse(file.path, media_type="application/octet-stream", filename=file.filename)


@router.delete("/files/{file_id}")
async def delete_file(file_id: str, services: AppServices) -> dict[str, Any]:
    """Deletes a file and the videos made of it."""
    for video in services.library.uses_of(file_id):
        services.library.delete(video.id)
        services.device.forget(video.id)
    await to_thread.run_sync(services.files.delete, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@router.post("/uploads")
async def create_upload(body: NewUpload, services: AppServices) -> dict[str, Any]:
    """Begins an upload in parts, which can be resumed."""
    return services.uploads.create(body.filename, body.purpose, body.bytes).to_dict()


@router.get("/uploads/{upload_id}")
async def get_upload(upload_id: str, services: AppServices) -> dict[str, Any]:
    """Describes an upload with the parts received so far."""
    return services.uploads.get(upload_id).to_dict()


@router.post("/uploads/{upload_id}/parts", openapi_extra=_form("data"))
async def add_part(upload_id: str, request: Request, services: AppServices) -> dict[str, Any]:
    """Adds one part."""
    services.uploads.get(upload_id)
    part = await _received(services, request, "data")
    try:
        return services.uploads.add_part(upload_id, part)
    except ApiError:
        discard(services.files, part)
        raise


@router.post("/uploads/{upload_id}/complete")
async def complete_upload(
    upload_id: str, body: CompleteUpload, services: AppServices
) -> dict[str, Any]:
    """Joins the parts into a file."""
    upload = await to_thread.run_sync(services.uploads.complete, upload_id, body.part_ids)
    return upload.to_dict()


@router.post("/uploads/{upload_id}/cancel")
async def cancel_upload(upload_id: str, services: AppServices) -> dict[str, Any]:
    """Ends an upload and deletes its parts."""
    return (await to_thread.run_sync(services.uploads.cancel, upload_id)).to_dict()


async def _received(services: Services, request: Request, field: str) -> Upload:
    content_type = request.headers.get("content-type", "")
    return await receive_file(services.files, content_type, request.stream(), field=field)
