"""Routes for operators and for people: health, metrics, the page and the API's description."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.injection import AppServices

router = APIRouter(tags=["service"])

PAGE = Path(__file__).parent / "page"


@router.get("/healthz")
async def is_alive(services: AppServices) -> dict[str, str]:
    """Answers while the device thread lives."""
    if not services.device.is_alive:
        raise ApiError(503, "the device thread has ended; restart the server")
    return {"status": "ok"}


@router.get("/readyz")
async def is_ready(services: AppServices) -> dict[str, str]:
    """Answers while the server takes requests."""
    if services.is_draining or not services.is_ready:
        raise ApiError(503, "the server is starting or stopping", retry_after=5)
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def get_metrics(services: AppServices) -> Response:
    """Returns metrics for Prometheus."""
    services.update_metrics()
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def add_page(app: FastAPI) -> None:
    """Serves the page at `/` and its files below `/page`."""
    app.mount("/page", StaticFiles(directory=PAGE, check_dir=False), name="page")

    @app.get("/", include_in_schema=False)
    async def get_page() -> Response:
        index = PAGE / "index.html"
        if not index.is_file():
            return HTMLResponse("<!doctype html><title>XComp</title><p>See <a href=/docs>/docs</a>")
        return FileResponse(index)

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))


def docs_page(schema: dict[str, Any]) -> str:
    """Returns a page that lists all requests; it loads nothing from elsewhere."""
    rows = [
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code>"
        f"<td>{html.escape(operation.get('description') or operation.get('summary', ''))}"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>XComp API</title>'
        '<meta name="viewport" content="width=device-width">'
        "<h1>XComp API</h1><p>Schemas of all requests: "
        '<a href="/openapi.json">/openapi.json</a></p>'
        f"<table>{''.join(rows)}</table></html>"
    )
