"""kill -9 of the server while requests wait in the queue, some of them sent back by a device that was busy.

After the restart nothing is held, nobody waits, each request has ended and says why, and nobody paid for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.conftest import SEED, make_directory
from tests.crash.test_kill import ROUNDS, gone, settled_books
from tests.live.house import House, Script, chunk, fund, open_house, person, selling
from yggdrasil.kernel import System
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.links import Job

MODEL = "waiting-model"
WALLET_CENTS = 10_000
BUYERS = 2
CLIENTS = 20
SLOTS_SAID = 4
JOB_SECONDS = 0.05
"""So long that one job more, when the device is asked for one, meets another."""
MOMENTS_SECONDS = 2.0
WISHES = {"queue_seconds": 60, "deadline_seconds": 300}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Wait for it."}], "max_tokens": 50}
V1, REST = "/v1/chat/completions", "/api/v1/marketplace/requests"

ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (V1, {**CHAT, "yggdrasil": WISHES}),
    "stream": (V1, {**CHAT, "yggdrasil": WISHES, "stream": True}),
    "responses": ("/v1/responses", {"model": MODEL, "input": "Wait for it.", "yggdrasil": WISHES}),
    "requests": (REST, {"kind": "chat", "request": CHAT, **WISHES}),
    "requests, streamed": (REST, {"kind": "chat", "request": CHAT, "stream": True, **WISHES}),
}


@dataclass
class OneSlot:
    """A device that says it takes four jobs, and takes one at a time."""

    said: int = SLOTS_SAID
    open: int = 0
    refused: int = 0
    served: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, job: Job) -> None:
        if self.open:
            self.refused += 1
            job.busy("one at a time")
            return
        self.open += 1
        try:
            job.accept()
            await job.body()
            await self.go.wait()
            await asyncio.sleep(JOB_SECONDS)
            await job.send(chunk({"content": "done"}))
            await job.send(chunk({}, "stop"))
            job.done(prompt_tokens=5, completion_tokens=1)
            self.served += 1
        finally:
            self.open -= 1


@dataclass
class Asked:
    """What a client saw of a request: an answer, or that the connection broke."""

    buyer: int
    route: str
    key: str | None = None
    status: int | None = None
    text: str = ""
    broke: bool = False

    @property
    def answered(self) -> bool:
        """To its end."""
        return not self.broke and self.status is not None and self.status < 300


@dataclass
class Shop:
    house: House
    slot: OneSlot
    buyers: list[Account]
    keys: list[str]
    asked: list[Asked] = field(default_factory=list)

    async def ask(self, buyer: int, route: str, key: str | None = None) -> Asked:
        seen = Asked(buyer, route, key)
        self.asked.append(seen)
        path, body = ROUTES[route]
        headers = {"authorization": f"Bearer {self.keys[buyer]}"}
        if key is not None:
            body = {**body, "idempotency_key": key}
        async with httpx.AsyncClient(base_url=self.house.url, timeout=90) as http:
            try:
                async with http.stream("POST", path, json=body, headers=headers) as answer:
                    seen.status = answer.status_code
                    seen.text = (await answer.aread()).decode()
            except httpx.TransportError:
                seen.broke = True
        return seen

    async def ask_until_cut_off(self, buyer: int, dice: random.Random) -> None:
        """One request after another, so that a kill falls on some of them whenever it comes."""
        while not (await self.ask(buyer, dice.choice(list(ROUTES)))).broke:
            pass

    async def transactions(self) -> list[dict[str, Any]]:
        return [one for buyer in self.buyers for one in await buyer.transactions()]

    async def back(self) -> None:
        """The server again, and the seller at it."""
        await self.house.start()
        headers = {"authorization": f"Bearer {self.keys[0]}"}
        async with asyncio.timeout(30), httpx.AsyncClient(base_url=self.house.url, headers=headers) as http:
            while MODEL not in (await http.get("/v1/models")).text:
                await asyncio.sleep(0.05)

    async def check(self) -> list[dict[str, Any]]:
        """The promises; all transactions."""
        books = await settled_books(self.house)
        for name in (
            "open_holds",
            "held_microcents",
            "sum_microcents",
            "clearing_microcents",
            "unbalanced_transfers",
            "mismatched_balances",
        ):
            assert books[name] == 0, name
        assert books["cost_microcents"] == books["fee_microcents"] + books["earnings_microcents"]
        paid = 0
        for buyer in self.buyers:
            mine = await buyer.transactions()
            spent = sum(one["total_microcents"] for one in mine)
            balance = await buyer.balance()
            assert balance["wallet_held_microcents"] == 0
            assert balance["wallet_posted_microcents"] == WALLET_CENTS * 1_000_000 - spent
            paid += spent
        assert paid == books["cost_microcents"]
        found = await self.transactions()
        for one in found:
            assert one["state"] in ("COMPLETED", "FAILED"), one
            assert one["ended_at"] is not None
            if one["state"] == "FAILED":
                assert (one["error_code"], one["total_microcents"]) == ("server_lost", 0), one
        return found


@contextlib.asynccontextmanager
async def shop() -> AsyncIterator[Shop]:
    place = make_directory()
    async with open_house(place) as house, contextlib.AsyncExitStack() as stack:
        seller = await stack.enter_async_context(await person(house, "seller"))
        await fund(seller)
        buyers, keys = [], []
        for number in range(BUYERS):
            buyer = await stack.enter_async_context(await person(house, f"buyer{number}"))
            await fund(buyer, WALLET_CENTS)
            buyers.append(buyer)
            keys.append((await buyer.create_key("queue"))["key"])
        script, slot = Script(), OneSlot()
        await stack.enter_async_context(
            selling(seller, model=MODEL, script=script, price_cents=10, capacity_jobs=SLOTS_SAID)
        )
        script.serve = slot.serve
        yield Shop(house, slot, buyers, keys)
    shutil.rmtree(place, ignore_errors=True)


async def until_states(shop: Shop, wanted: dict[tuple[str, bool], int]) -> None:
    """So many transactions are in (state, was it tried)."""
    async with asyncio.timeout(30):
        while True:
            states = [(one["state"], one["attempts"] > 0) for one in await shop.transactions()]
            if {one: states.count(one) for one in wanted} == wanted:
                return
            await asyncio.sleep(0.05)


async def moments(house: House, *, seconds: float) -> list[tuple[int, int]]:
    """(open holds, transactions on their way), each of one moment, for so long.

    The device is asked for one more job now and then, so what was sent back is on its way again for a moment.
    """
    loop = asyncio.get_running_loop()
    until, seen = loop.time() + seconds, []
    async with house.database() as database:
        while loop.time() < until:
            async with database.transaction(System("test-moments")) as tx:
                row = await tx.fetchrow(
                    "SELECT (SELECT count(*) FROM tenant.holds WHERE state = 'pending') AS holds,"
                    " (SELECT count(*) FROM tenant.transactions"
                    " WHERE side = 'requester' AND state = 'PROCESSING') AS running"
                )
            assert row is not None
            seen.append((row["holds"], row["running"]))
    return seen


async def test_killed_while_requests_wait_and_one_was_sent_back() -> None:
    async with shop() as made:
        house, slot = made.house, made.slot
        async with asyncio.TaskGroup() as group:
            group.create_task(made.ask(0, "chat"))
            await until_states(made, {("PROCESSING", True): 1})
            group.create_task(made.ask(0, "requests", "sent-back"))
            await until_states(made, {("PENDING", True): 1})
            for buyer in range(BUYERS):
                for route in ROUTES:
                    group.create_task(made.ask(buyer, route, "queued" if route == "requests" else None))
            await until_states(made, {("PENDING", False): 2 * len(ROUTES), ("PROCESSING", True): 1})
            # What runs is held, and nothing that waits.
            seen = await moments(house, seconds=MOMENTS_SECONDS)
            assert all(holds == running for holds, running in seen), seen
            assert (1, 1) in seen
            postmaster = house.postmaster()
            house.kill()
            await gone(postmaster)
        assert all(one.broke for one in made.asked), "every client was cut off, and none was told it is well"
        assert slot.refused >= 1
        await made.back()
        found = await made.check()
        assert len(found) == len(made.asked) == 2 + 2 * len(ROUTES)
        assert {one["state"] for one in found} == {"FAILED"}
        # Under the keys they had, the clients are told what became of it; and a new request is served.
        slot.go.set()
        async with httpx.AsyncClient(
            base_url=house.url, headers={"authorization": f"Bearer {made.keys[0]}"}
        ) as http:
            for key in ("sent-back", "queued"):
                body = {**ROUTES["requests"][1], "idempotency_key": key}
                again = (await http.post(REST, json=body)).json()
                assert (again["transaction"]["state"], again["result"]) == ("FAILED", None)
                assert again["transaction"]["error_code"] == "server_lost"
        after = await made.ask(1, "chat")
        assert after.answered, after
        assert slot.served == 1
        assert len([one for one in await made.check() if one["state"] == "COMPLETED"]) == 1


@pytest.mark.parametrize("seed", [SEED + number for number in range(max(1, ROUNDS // 3))])
async def test_killed_at_any_moment_while_a_device_sends_back_one_request_after_another(seed: int) -> None:
    dice = random.Random(seed)
    async with shop() as made:
        house, slot = made.house, made.slot
        slot.go.set()
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(made.ask_until_cut_off(number % BUYERS, random.Random(dice.random())))
            refused = dice.randrange(2, 6)
            async with asyncio.timeout(60):
                while slot.refused < refused or not slot.served:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.3 * dice.random())
            postmaster = house.postmaster()
            house.kill()
            await gone(postmaster)
        await made.back()
        found = await made.check()
        assert any(one["state"] == "FAILED" for one in found), "the kill fell on no request"
        # Whoever read an answer to its end has one in the books.
        answered = [one for one in made.asked if one.answered]
        assert len([one for one in found if one["state"] == "COMPLETED"]) >= len(answered)
        assert len(found) <= len(made.asked)
        after = await made.ask(0, "chat")
        assert after.answered, after
        await made.check()
