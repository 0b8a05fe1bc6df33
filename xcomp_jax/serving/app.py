"""Builds the ASGI application of a server."""

from __future__ import annotations

from fastapi import FastAPI

from xcomp_jax import __version__
from xcomp_jax.serving.errors import AsciiJson, install_error_handlers
from xcomp_jax.serving.routes_chat import chat_routes
from xcomp_jax.serving.routes_files import file_routes
from xcomp_jax.serving.routes_service import add_page, service_routes
from xcomp_jax.serving.routes_videos import video_routes
from xcomp_jax.serving.security import Keys, Security
from xcomp_jax.serving.services import Services


def create_app(services: Services) -> FastAPI:
    """Returns the application with all routes."""
    # The built-in documentation pages load scripts from another host.
    app = FastAPI(
        title="XComp",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        default_response_class=AsciiJson,
    )
    keys = Keys(services.config.keys)
    install_error_handlers(app)
    for router in (
        chat_routes(services),
        file_routes(services),
        video_routes(services, keys),
        service_routes(services),
    ):
        app.include_router(router)
    add_page(app)
    app.add_middleware(Security, config=services.config, keys=keys, metrics=services.metrics)
    return app
