"""The API over the marketplace's world, asked by the real OpenAI client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar, Request
from litestar.di import Provide

from openai import AsyncOpenAI
from tests.marketplace.world import World, world
from yggdrasil.edge import EdgeRequest
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Network
from yggdrasil.marketplace import routes as marketplace_routes
from yggdrasil.openai import routes
from yggdrasil.problems import handle

__all__ = ["app", "client_for", "http", "world"]


@pytest.fixture
def app(world: World) -> Litestar:
    async def caller(request: Request) -> Network:  # type: ignore[type-arg]
        found = world.tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if found is None:
            raise Unauthenticated
        return found

    return Litestar(
        route_handlers=[routes.router, marketplace_routes.router],
        dependencies={
            "caller": Provide(caller),
            "marketplace": Provide(lambda: world.market, sync_to_thread=False),
        },
        exception_handlers={Exception: handle},
        request_class=EdgeRequest,
        openapi_config=None,
        logging_config=None,
    )


@pytest.fixture
async def http(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://yggdrasil") as client:
        yield client


def client_for(world: World, http: httpx.AsyncClient, scope: Network) -> AsyncOpenAI:
    """OpenAI's own client, for this person."""
    token = f"key-{scope.user_id}"
    world.tokens[token] = scope
    return AsyncOpenAI(api_key=token, base_url="http://yggdrasil/v1", http_client=http, max_retries=0)
