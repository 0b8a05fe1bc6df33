"""Errors in OpenAI's shape; no path or traceback of the server reaches a client."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from xcomp_jax.full_disk import is_full_disk_error
from xcomp_jax.video.errors import VideoError

logger = logging.getLogger(__name__)

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}

_FIELD = re.compile(r"[a-z_]\w*")
_TYPES = ("str", "int", "float", "bool")
"""Types of unions in the places that pydantic names; other types are no names of fields."""


class ApiError(Exception):
    """An error that a client sees.

    Args:
        status: HTTP status. param: field of the request. code: short name for programs.
        retry_after: seconds after which the request may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """Returns the error as OpenAI's JSON."""
        kind = TYPES.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """Returns the HTTP response."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return AsciiJson(self.body(), self.status, headers=headers)


class AsciiJson(JSONResponse):
    """JSON in ASCII: text that is not valid Unicode is escaped instead of failing."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def api_error_of(error: BaseException, name: str = "video") -> ApiError:
    """Returns what a client sees of an error raised while its request was processed.

    Args:
        name: name of the video, in place of its path on the server.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, VideoError):
        reason = error.reason.replace(error.path, name)
        advice = re.sub(r" ?\(--[\w-]+\)", "", error.advice)
        return ApiError(
            400, f"{name}: {reason.rstrip('.')}. {advice}", param="video", code="invalid_video"
        )
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return ApiError(400, str(error))
    if "RESOURCE_EXHAUSTED" in str(error):
        return ApiError(
            503,
            "the device has not enough memory for this request now; try again, or pass a smaller "
            "num_frames",
            code="out_of_memory",
            retry_after=5,
        )
    if is_full_disk_error(error):
        logger.error("a disk of the server is full: %s", error)
        return ApiError(
            507,
            "a disk of the server is full; delete files that you do not need, or ask its operator",
            code="disk_full",
        )
    logger.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed to process the request; its log has the reason")


def install_error_handlers(app: FastAPI) -> None:
    """Converts every exception of a request into a response of OpenAI's shape."""

    def respond(request: Request, error: Exception) -> JSONResponse:
        return api_error_of(error).response()

    def respond_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, ApiError):  # raised while the body was read
            return error.__cause__.response()
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is no {request.method} {request.url.path[:200]}; see /docs"
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    def respond_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        content_type = request.headers.get("content-type", "missing")
        if isinstance(error.body, bytes) and "json" not in content_type:
            # FastAPI parses only bodies that are declared as JSON; curl's default is a form.
            return ApiError(
                415,
                f"the Content-Type is {content_type[:100]}; send the header "
                "Content-Type: application/json",
                code="content_type",
            ).response()
        return _invalid(error.errors()).response()

    for kind in (ApiError, ValueError, OSError, Exception):
        app.add_exception_handler(kind, respond)
    app.add_exception_handler(HTTPException, respond_http)
    app.add_exception_handler(RequestValidationError, respond_invalid)


def _invalid(details: Sequence[Mapping[str, Any]]) -> ApiError:
    """Returns the error of an invalid request.

    A field of several types has an error for each of them. The one that got furthest into the
    value is about the type that the client meant.
    """
    detail = details[0]
    if detail.get("type") == "json_invalid":
        return ApiError(
            400, f"the body is not valid JSON: {detail.get('msg')}", code="json_invalid"
        )
    deepest = max(len(detail["loc"]) for detail in details)
    details = [detail for detail in details if len(detail["loc"]) == deepest]
    details = [d for d in details if not d["type"].endswith("_type")] or details
    detail, param = details[0], _param(details[0]["loc"])
    same = [other["msg"] for other in details if _param(other["loc"]) == param]
    text = ", or ".join(dict.fromkeys(message.removeprefix("Value error, ") for message in same))
    found = "" if detail["type"] == "missing" else f" (found {detail.get('input')!r:.100})"
    return ApiError(400, f"{param or 'the request'}: {text}{found}", param=param)


def _param(place: Sequence[int | str]) -> str | None:
    """Returns the name of a field, without the types of unions in its path."""
    fields = [
        str(part)
        for part in place[1:]  # after "body", "query" or "path"
        if isinstance(part, int) or (_FIELD.fullmatch(part) and part not in _TYPES)
    ]
    # The type of a content part, which is often the name of its field too.
    return ".".join(name for name, _ in itertools.groupby(fields)) or None
