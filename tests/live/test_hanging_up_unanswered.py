"""Requesters who hang up before a word of the answer, on every route that runs a request, over real sockets.

Whoever waits leaves the queue, whoever runs stops its provider; the books say CANCELLED, and nothing is paid.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.live.house import House, Script, chunk, fund, person, selling
from yggdrasil.hangup import LOOK_AFTER_SECONDS
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.links import Job

WALLET_CENTS = 10_000
NOTICED_SECONDS_MAX = 5.0
"""Of which the watch begins after half a second; the rest is for a machine at work."""
CHAT, EMBEDDER = "unanswered-chat", "unanswered-embed"
WISHES = {"queue_seconds": 60, "deadline_seconds": 600}
REST = "/api/v1/marketplace/requests"

MESSAGES = {"model": CHAT, "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 50}
TEXTS = {"model": EMBEDDER, "input": ["one", "two"]}
INPUT = {"model": CHAT, "input": "Say it.", "max_output_tokens": 50}

ROUTES: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {}, {**MESSAGES, "yggdrasil": WISHES}),
    "chat, the long way": (
        "/v1/chat/completions/",
        {"x-yggdrasil-max-cost-cents": "100"},
        {**MESSAGES, "yggdrasil": WISHES},
    ),
    "chat, streamed": ("/v1/chat/completions", {}, {**MESSAGES, "yggdrasil": WISHES, "stream": True}),
    "embeddings": ("/v1/embeddings", {}, {**TEXTS, "yggdrasil": WISHES}),
    "responses": ("/v1/responses", {}, {**INPUT, "yggdrasil": WISHES}),
    "responses, streamed": ("/v1/responses", {}, {**INPUT, "yggdrasil": WISHES, "stream": True}),
    "requests": (REST, {}, {"kind": "chat", "request": MESSAGES, **WISHES}),
    "requests, streamed": (REST, {}, {"kind": "chat", "request": MESSAGES, "stream": True, **WISHES}),
    "requests for embeddings": (REST, {}, {"kind": "embeddings", "request": TEXTS, **WISHES}),
}


@dataclass
class Held:
    """A provider who takes each job and says nothing until it is let go, or told to stop."""

    taken: asyncio.Queue[asyncio.Event] = field(default_factory=asyncio.Queue)
    stopped: int = 0

    async def serve(self, job: Job) -> None:
        job.accept()
        await job.body()
        go = asyncio.Event()
        self.taken.put_nowait(go)
        try:
            await go.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if job.kind == "embeddings":
            data = [{"object": "embedding", "index": i, "embedding": [0.5, -0.5]} for i in range(2)]
            await job.send(json.dumps({"object": "list", "data": data, "usage": {}}).encode())
            job.done(prompt_tokens=2, completion_tokens=0)
            return
        await job.send(chunk({"content": "done"}))
        await job.send(chunk({}, "stop"))
        job.done(prompt_tokens=5, completion_tokens=1)

    async def next(self) -> asyncio.Event:
        return await asyncio.wait_for(self.taken.get(), 15)


@dataclass
class Trade:
    house: House
    buyer: Account
    key: str
    held: Held

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def hang_up_when(self, route: str, ready: Any) -> float:
        """Ask over a bare socket, close it when `ready`; the monotonic time of that."""
        path, more, content = ROUTES[route]
        body = json.dumps(content).encode()
        head = {
            "host": f"127.0.0.1:{self.house.port}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self.headers,
            **more,
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        _, writer = await asyncio.open_connection("127.0.0.1", self.house.port)
        writer.write("\r\n".join(lines).encode() + body)
        await ready()
        writer.transport.abort()
        return time.monotonic()

    async def states(self) -> list[str]:
        return [one["state"] for one in await self.buyer.transactions()]

    async def newest_becomes(self, state: str, seconds: float) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                newest = (await self.buyer.transactions())[:1]
                if newest and newest[0]["state"] == state:
                    return dict(newest[0])
                await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
async def market(house: House) -> AsyncIterator[tuple[House, Held]]:
    """Two sellers of one slot each, one of chats and one of embeddings, in one person's hand."""
    held = Held()
    async with contextlib.AsyncExitStack() as stack:
        for model, kind in ((CHAT, "chat"), (EMBEDDER, "embeddings")):
            seller = await stack.enter_async_context(await person(house, f"{model}-seller"))
            await fund(seller)
            script = Script()
            await stack.enter_async_context(
                selling(seller, model=model, script=script, kind=kind, capacity_jobs=1)
            )
            script.serve = held.serve
        yield house, held


@pytest.fixture
async def trade(market: tuple[House, Held], request: pytest.FixtureRequest) -> AsyncIterator[Trade]:
    house, held = market
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:20]
    async with await person(house, f"{name}-buyer") as buyer:
        await fund(buyer, WALLET_CENTS)
        yield Trade(house, buyer, (await buyer.create_key("hang-up"))["key"], held)
        balance = await buyer.balance()
        spent = sum(one["total_microcents"] for one in await buyer.transactions())
        assert balance["wallet_held_microcents"] == 0
        assert balance["wallet_posted_microcents"] == WALLET_CENTS * 1_000_000 - spent
        books = await house.audit()
        for sum_name in ("sum_microcents", "clearing_microcents", "mismatched_balances", "open_holds"):
            assert books[sum_name] == 0, sum_name


async def test_whoever_hangs_up_while_waiting_leaves_the_queue(trade: Trade) -> None:
    held = trade.held
    async with httpx.AsyncClient(base_url=trade.house.url, timeout=60, headers=trade.headers) as http:
        holders, slots = [], []
        for route in ("chat", "embeddings"):
            path, _, body = ROUTES[route]
            holders.append(asyncio.create_task(http.post(path, json=body)))
            slots.append(await held.next())
        for route in ROUTES:
            await trade.hang_up_when(route, lambda: trade.newest_becomes("PENDING", 10))
            mine = await trade.newest_becomes("CANCELLED", NOTICED_SECONDS_MAX)
            assert (mine["error_code"], mine["total_microcents"]) == ("cancelled", 0), route
            assert "PENDING" not in await trade.states(), route
        for slot in slots:
            slot.set()
        for answer in await asyncio.gather(*holders):
            assert answer.status_code == httpx.codes.OK
    assert held.taken.empty(), "somebody who was gone was served"


async def test_whoever_hangs_up_before_the_first_word_stops_the_provider(trade: Trade) -> None:
    held = trade.held
    for route in ROUTES:
        stopped = held.stopped
        await trade.hang_up_when(route, held.next)
        mine = await trade.newest_becomes("CANCELLED", NOTICED_SECONDS_MAX)
        assert (mine["completion_tokens"], mine["total_microcents"]) == (0, 0), route
        async with asyncio.timeout(NOTICED_SECONDS_MAX):
            while held.stopped == stopped:
                await asyncio.sleep(0.02)


async def test_whoever_stays_is_answered(trade: Trade) -> None:
    """The control: to be looked after does no harm, whether an answer comes before that begins or after."""
    async with httpx.AsyncClient(base_url=trade.house.url, timeout=60, headers=trade.headers) as http:
        for seconds in (0.0, 2 * LOOK_AFTER_SECONDS):
            for route, (path, more, body) in ROUTES.items():
                asking = asyncio.create_task(http.post(path, json=body, headers=more))
                slot = await trade.held.next()
                await asyncio.sleep(seconds)
                slot.set()
                answer = await asking
                assert answer.is_success, (route, answer.text)
                assert "done" in answer.text or "-0.5" in answer.text, route
    assert set(await trade.states()) == {"COMPLETED"}
