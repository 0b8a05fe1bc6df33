"""Parameters of routes that FastAPI fills with the parts of the server."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from xcomp_jax.serving.security import Keys
from xcomp_jax.serving.services import Services


def install_parts(app: FastAPI, services: Services, keys: Keys) -> None:
    """Makes the parts available to the routes of an application."""
    app.state.services, app.state.keys = services, keys


# Functions that are not async would run on a thread of their own.
async def _services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _keys_of(request: Request) -> Keys:
    keys: Keys = request.app.state.keys
    return keys


AppServices = Annotated[Services, Depends(_services_of)]
AppKeys = Annotated[Keys, Depends(_keys_of)]
