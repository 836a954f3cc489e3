"""A client that hangs up before its answer ends the work; one that stays, or is being answered, does not."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, cast

import pytest

from yggdrasil import hangup
from yggdrasil.hangup import noticing_hangups
from yggdrasil.marketplace import routes as marketplace
from yggdrasil.openai import routes as openai

BODY: list[dict[str, Any]] = [
    {"type": "http.request", "body": b"{", "more_body": True},
    {"type": "http.request", "body": b"}", "more_body": False},
]


class Client:
    """Sends its body, and hangs up when told to. What it is sent, it keeps."""

    def __init__(self) -> None:
        self.left = list(BODY)
        self.gone = asyncio.Event()
        self.sent: list[Any] = []
        self.reading = 0

    async def receive(self) -> Any:
        assert not self.reading, "two read at once"
        if self.left:
            return self.left.pop(0)
        self.reading += 1
        try:
            await self.gone.wait()
        finally:
            self.reading -= 1
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


async def served(client: Client, handler: Any) -> None:
    await noticing_hangups(handler)(cast(Any, {}), client.receive, client.send)


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event["body"], event["more_body"]
    return body


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hangup, "LOOK_AFTER_SECONDS", 0.01)


async def test_a_hang_up_ends_the_work_and_goes_no_further() -> None:
    client = Client()
    ended: list[str] = []

    async def handler(_scope: Any, receive: Any, _send: Any) -> None:
        assert await body_of(receive) == b"{}"
        client.gone.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with asyncio.timeout(5):
        await served(client, handler)
    assert ended == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_hang_up_before_anybody_looks_is_noticed_when_somebody_does() -> None:
    client = Client()
    client.gone.set()

    async def handler(_scope: Any, receive: Any, _send: Any) -> None:
        await body_of(receive)
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await served(client, handler)


async def test_an_answer_that_has_begun_is_told_and_not_cut_off() -> None:
    client = Client()
    told: list[str] = []

    async def handler(_scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        await send({"type": "http.response.start"})
        listening = asyncio.create_task(receive())
        await asyncio.sleep(0.05)
        client.gone.set()
        told.append((await listening)["type"])
        await send({"type": "http.response.body"})

    await served(client, handler)
    assert told == ["http.disconnect"]
    assert len(client.sent) == 2


async def test_whoever_stays_is_answered_and_nobody_reads_on() -> None:
    client = Client()

    async def handler(_scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        await asyncio.sleep(0.05)
        assert client.reading == 1
        await send({"type": "http.response.start"})

    await served(client, handler)
    await asyncio.sleep(0)
    assert client.reading == 0
    assert len(client.sent) == 1


async def test_a_cancellation_of_somebody_elses_goes_on() -> None:
    client = Client()

    async def handler(_scope: Any, receive: Any, _send: Any) -> None:
        await body_of(receive)
        await asyncio.Event().wait()

    task = asyncio.create_task(served(client, handler))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_is_raised_as_ever() -> None:
    client = Client()

    async def handler(_scope: Any, receive: Any, _send: Any) -> None:
        await body_of(receive)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await served(client, handler)


def test_every_route_that_begins_a_run_notices() -> None:
    begins = [
        handler
        for router in (openai.router, marketplace.router)
        for route in router.routes
        for handler in cast(Any, route).route_handlers
        if any(call in inspect.getsource(handler.fn) for call in ("marketplace.run(", "begin_chat("))
    ]
    names = {handler.fn.__name__ for handler in begins}
    assert names == {"create_chat_completion", "create_response", "create_embeddings", "create_request"}
    for handler in begins:
        assert noticing_hangups in (handler.middleware or ()), handler.fn.__name__
