"""Builds the ASGI application of a server."""

from __future__ import annotations

from fastapi import FastAPI

from xcomp_jax import __version__
from xcomp_jax.serving import routes_chat, routes_files, routes_service, routes_videos
from xcomp_jax.serving.errors import AsciiJson, install_error_handlers
from xcomp_jax.serving.injection import install_parts
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
    install_parts(app, services, keys)
    for module in (routes_chat, routes_files, routes_videos, routes_service):
        app.include_router(module.router)
    routes_service.add_page(app)
    app.add_middleware(Security, config=services.config, keys=keys, metrics=services.metrics)
    return app
