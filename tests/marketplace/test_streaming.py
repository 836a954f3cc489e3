"""The reader of a stream goes away at the worst moment: while a chunk is on its way, or before the first."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar

from tests.marketplace import world as scripts
from tests.marketplace.world import World
from yggdrasil.kernel import Network


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Nothing may rest on when garbage is collected."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Reader:
    """An ASGI server whose client stops reading at message `stop_at` of the answer, and is then gone."""

    def __init__(self, body: bytes, stop_at: int) -> None:
        self.body = body
        self.stop_at = stop_at
        self.seen = 0
        self.stopped = asyncio.Event()
        self.gone = asyncio.Event()
        self.asked = False

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.seen += 1
        if self.seen == self.stop_at:
            self.stopped.set()
            if self.stop_at == 1:
                raise OSError("the connection is gone")
            await asyncio.Event().wait()


def connection(path: str, scope: Network) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer key-{scope.user_id}".encode()), (b"host", b"yggdrasil")]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [*headers, (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
    }


@pytest.mark.parametrize("stop_at", [1, 3], ids=["before the first chunk", "while a chunk is on its way"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/marketplace/requests"])
async def test_the_provider_is_told_at_once(
    world: World, app: Litestar, path: str, stop_at: int, no_gc: None
) -> None:
    def words(device: scripts.Provider, job: scripts.JobReady) -> None:
        for _ in range(4):
            device.client.send(job.link, scripts.chunk(" word"))

    world.market._serving._settings = scripts.replace(world.settings, stall_seconds=60.0)
    seller = await world.seller(behaviour=words)
    buyer = await world.buyer()
    world.tokens[f"key-{buyer.user_id}"] = buyer
    chat = {"model": scripts.MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 50}
    body = {"kind": "chat", "request": chat, "stream": True} if "api" in path else {**chat, "stream": True}
    reader = Reader(json.dumps(body).encode(), stop_at)
    answering = asyncio.create_task(app(connection(path, buyer), reader.receive, reader.send))  # type: ignore[arg-type]
    await asyncio.wait_for(reader.stopped.wait(), 5)
    reader.gone.set()
    await asyncio.wait_for(seller.got_cancel.wait(), 5)
    await asyncio.gather(answering, return_exceptions=True)
    await asyncio.wait_for(asyncio.gather(*world.market._serving._tasks), 5)
    page = await world.market.transactions(buyer, side=None, limit=10, cursor=None)
    assert [one.state for one in page.items] == ["CANCELLED"]
    assert (await world.no_holds()).cost_microcents == page.items[0].total_microcents
