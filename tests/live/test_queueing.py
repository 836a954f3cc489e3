"""Requests that wait for a busy seller, over real sockets: in turn, cancellable, told in time, and exactly
paid."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.live.house import House, Script, chunk, fund, person, selling
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.links import Job

WALLET_CENTS = 10_000


@dataclass
class Narrow:
    """A seller of one slot: each job waits until it is let go."""

    waiting: asyncio.Queue[asyncio.Event] = field(default_factory=asyncio.Queue)
    served: int = 0
    asked_by: list[str] = field(default_factory=list)
    """Whose jobs came, in the order in which they came."""

    async def serve(self, job: Job) -> None:
        job.accept()
        self.asked_by.append(json.loads(await job.body())["messages"][-1]["content"])
        go = asyncio.Event()
        self.waiting.put_nowait(go)
        await go.wait()
        await job.send(chunk({"content": "done"}))
        await job.send(chunk({}, "stop"))
        self.served += 1
        job.done(prompt_tokens=5, completion_tokens=1)

    async def let_go(self) -> None:
        (await asyncio.wait_for(self.waiting.get(), 10)).set()


@dataclass
class Shop:
    house: House
    narrow: Narrow
    model: str
    buyers: list[tuple[Account, str]]

    async def ask(self, buyer: int, **wishes: Any) -> httpx.Response:
        messages = [{"role": "user", "content": f"buyer {buyer}"}]
        body = {"model": self.model, "messages": messages, "max_tokens": 50, "yggdrasil": wishes}
        async with httpx.AsyncClient(base_url=self.house.url, timeout=30) as client:
            headers = {"authorization": f"Bearer {self.buyers[buyer][1]}"}
            return await client.post("/v1/chat/completions", json=body, headers=headers)

    async def of(self, buyer: int, state: str) -> list[dict[str, Any]]:
        return [one for one in await self.buyers[buyer][0].transactions() if one["state"] == state]

    async def reach(self, buyer: int, state: str, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while len(found := await self.of(buyer, state)) < count:
                await asyncio.sleep(0.02)
        return found

    async def sound(self) -> None:
        books = await self.house.audit()
        for name in ("sum_microcents", "clearing_microcents", "mismatched_balances", "open_holds"):
            assert books[name] == 0, name


@pytest.fixture
async def shop(house: House, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:30].rstrip("-")
    async with contextlib.AsyncExitStack() as stack:
        seller = await stack.enter_async_context(await person(house, f"{name}-seller"))
        await fund(seller)
        buyers = []
        for number in range(3):
            account = await stack.enter_async_context(await person(house, f"{name}-{number}"))
            await fund(account, WALLET_CENTS)
            buyers.append((account, (await account.create_key("queueing"))["key"]))
        narrow, script = Narrow(), Script()
        await stack.enter_async_context(
            selling(seller, model=f"narrow-{name}", script=script, capacity_jobs=1)
        )
        # Only now: the test of a new provider is answered at once.
        script.serve = narrow.serve
        yield Shop(house, narrow, f"narrow-{name}", buyers)


async def test_all_of_three_networks_are_served_in_turns(shop: Shop) -> None:
    first = asyncio.create_task(shop.ask(0, queue_seconds=30))
    await shop.reach(0, "PROCESSING", 1)
    asked = [asyncio.create_task(shop.ask(0, queue_seconds=30)) for _ in range(3)]
    await shop.reach(0, "PENDING", 3)
    others = [asyncio.create_task(shop.ask(buyer, queue_seconds=30)) for buyer in (1, 2)]
    for buyer in (1, 2):
        await shop.reach(buyer, "PENDING", 1)
    for _ in range(6):
        await shop.narrow.let_go()
    answers = await asyncio.gather(first, *asked, *others)
    assert [answer.status_code for answer in answers] == [200] * 6
    # Three of one network waited before the others came, and the others wait behind one of them.
    # (Jobs, not answers: those are settled in batches, and promised in no order.)
    assert shop.narrow.asked_by[:2] == ["buyer 0", "buyer 0"]
    assert sorted(shop.narrow.asked_by[2:4]) == ["buyer 1", "buyer 2"]
    assert shop.narrow.asked_by[4:] == ["buyer 0", "buyer 0"]
    await shop.sound()


async def test_a_wait_that_is_too_long_is_told_with_503_and_costs_nothing(shop: Shop) -> None:
    first = asyncio.create_task(shop.ask(0))
    await shop.reach(0, "PROCESSING", 1)
    late = await shop.ask(1, queue_seconds=1)
    assert late.status_code == 503
    assert late.json()["error"]["code"] == "no_provider"
    assert int(late.headers["retry-after"]) >= 1
    at_once = await shop.ask(1, queue_seconds=0)
    assert at_once.status_code == 503
    (failed,) = await shop.of(1, "FAILED")
    assert failed["total_microcents"] == 0
    await shop.narrow.let_go()
    assert (await first).status_code == 200
    balance = await shop.buyers[1][0].balance()
    assert balance["wallet_available_microcents"] == WALLET_CENTS * 1_000_000
    await shop.sound()


async def test_who_cancels_or_hangs_up_while_waiting_is_cancelled(shop: Shop) -> None:
    first = asyncio.create_task(shop.ask(0))
    await shop.reach(0, "PROCESSING", 1)
    told = asyncio.create_task(shop.ask(1, queue_seconds=30))
    (waiting,) = await shop.reach(1, "PENDING", 1)
    async with httpx.AsyncClient(base_url=shop.house.url) as client:
        headers = {"authorization": f"Bearer {shop.buyers[1][1]}"}
        path = f"/api/v1/marketplace/requests/{waiting['transaction_id']}/cancel"
        assert (await client.post(path, headers=headers)).status_code == 202
    assert (await told).status_code == 409
    gone = asyncio.create_task(shop.ask(2, queue_seconds=30))
    await shop.reach(2, "PENDING", 1)
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    for buyer in (1, 2):
        (ended,) = await shop.reach(buyer, "CANCELLED", 1)
        assert ended["total_microcents"] == 0
    await shop.narrow.let_go()
    assert (await first).status_code == 200
    assert shop.narrow.waiting.empty()
    await shop.sound()
