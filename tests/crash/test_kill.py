"""kill -9 of the server, and of PostgreSQL, in the middle of 100 running requests.

The books balance and nobody paid for nothing. A round is seeded: when the kill falls, and how fast each
provider speaks. `YGG_CRASH_ROUNDS` sets how many rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import SEED, make_directory
from tests.live.house import House, Script, fund, open_house, person, selling
from yggdrasil.vedrfolnir.account import Account

ROUNDS = int(os.environ.get("YGG_CRASH_ROUNDS", "3"))
REQUESTS = 100
BUYERS = 4
SELLERS = 3
MODEL = "crash-model"
WALLET_CENTS = 100_000
BACK_SECONDS_MAX = 60.0
QUIET_SECONDS_MAX = 30.0


@dataclass
class Seen:
    """What one requester saw of one request."""

    buyer: int
    transaction: str | None = None
    text: str = ""
    finished: bool = False
    cost_microcents: int | None = None


@dataclass
class World:
    """A house with people in it."""

    house: House
    buyers: list[Account]
    keys: list[str]
    scripts: list[Script]
    seen: list[Seen] = field(default_factory=list)

    async def ask(self, number: int, http: httpx.AsyncClient) -> None:
        """One streamed request, remembering everything that arrived, however it ends."""
        seen = Seen(number % BUYERS)
        self.seen.append(seen)
        body = {
            "model": MODEL,
            "stream": True,
            "max_tokens": 64,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": f"request {number}"}],
        }
        headers = {"authorization": f"Bearer {self.keys[seen.buyer]}"}
        with contextlib.suppress(httpx.HTTPError):
            async with http.stream(
                "POST", f"{self.house.url}/v1/chat/completions", json=body, headers=headers
            ) as answer:
                seen.transaction = answer.headers.get("x-yggdrasil-transaction")
                async for line in answer.aiter_lines():
                    if '"content"' in line:
                        seen.text += line
                    if line == "data: [DONE]":
                        seen.finished = True


@contextlib.asynccontextmanager
async def world(seed: int) -> AsyncIterator[World]:
    dice = random.Random(seed)
    place = make_directory()
    async with open_house(place) as house, contextlib.AsyncExitStack() as stack:
        scripts = []
        for number in range(SELLERS):
            seller = await stack.enter_async_context(await person(house, f"seller{number}"))
            await fund(seller)
            scripts.append(Script(words=12, pause_seconds=0.1 + 0.2 * dice.random()))
            await stack.enter_async_context(
                selling(seller, model=MODEL, script=scripts[-1], price_cents=2 + number)
            )
        buyers, keys = [], []
        for number in range(BUYERS):
            buyer = await stack.enter_async_context(await person(house, f"buyer{number}"))
            await fund(buyer, WALLET_CENTS)
            buyers.append(buyer)
            keys.append((await buyer.create_key("crash"))["key"])
        yield World(house, buyers, keys, scripts)
    shutil.rmtree(place, ignore_errors=True)


async def kill_in_flight(living: World, dice: random.Random, kill: Any) -> None:
    """Start 100 requests; when some have ended and most have not, kill; see them all end."""
    limits = httpx.Limits(max_connections=REQUESTS)
    async with httpx.AsyncClient(timeout=60, limits=limits) as http, asyncio.TaskGroup() as group:
        for number in range(REQUESTS):
            group.create_task(living.ask(number, http))
        wanted = dice.randrange(5, REQUESTS - 20)
        async with asyncio.timeout(60):
            # The kill falls while requests are at every stage: admitted, streaming, settling, done.
            while sum(script.accepted for script in living.scripts) < wanted:
                await asyncio.sleep(0.005)
        await asyncio.sleep(dice.random())
        kill()


async def settled_books(house: House) -> dict[str, int]:
    """The audit once no hold is open; the last look if that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + QUIET_SECONDS_MAX
    while True:
        books = await house.audit()
        if books["open_holds"] == 0 or loop.time() > deadline:
            return books
        await asyncio.sleep(0.2)


async def check(living: World, books: dict[str, int]) -> tuple[int, int]:
    """The promises; (completed, failed) requests."""
    assert books["open_holds"] == books["held_microcents"] == 0
    assert books["sum_microcents"] == books["clearing_microcents"] == books["unbalanced_transfers"] == 0
    assert books["mismatched_balances"] == 0
    assert books["cost_microcents"] == books["fee_microcents"] + books["earnings_microcents"]
    paid = completed = failed = 0
    by_id: dict[str, dict[str, Any]] = {}
    for buyer, key in zip(living.buyers, living.keys, strict=True):
        mine = await buyer.transactions()
        spent = sum(one["total_microcents"] for one in mine)
        balance = await buyer.balance()
        assert balance["wallet_posted_microcents"] == WALLET_CENTS * 1_000_000 - spent
        assert balance["wallet_held_microcents"] == 0
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http:
            for one in mine:
                by_id[one["transaction_id"]] = one
                assert one["state"] in ("COMPLETED", "FAILED", "CANCELLED"), one
                paid += one["total_microcents"]
                if one["state"] == "FAILED":
                    failed += 1
                    assert one["total_microcents"] == 0, "paid for a failed request"
                if one["total_microcents"]:
                    completed += 1
                    url = f"{living.house.url}/api/v1/marketplace/requests/{one['transaction_id']}/result"
                    kept = await http.get(url)
                    assert kept.status_code == httpx.codes.OK, "paid, and the answer is not there"
                    assert kept.json()["choices"][0]["message"]["content"]
    assert paid == books["cost_microcents"]
    for seen in living.seen:
        if seen.finished:
            assert seen.transaction is not None
            assert by_id[seen.transaction]["state"] == "COMPLETED"
    return completed, failed


def seeds() -> list[int]:
    return [SEED + number for number in range(ROUNDS)]


@pytest.mark.parametrize("seed", seeds())
async def test_server_killed_in_the_middle_of_100_requests(seed: int) -> None:
    dice = random.Random(seed)
    async with world(seed) as living:
        house = living.house
        postmaster = house.postmaster()
        await kill_in_flight(living, dice, house.kill)
        await gone(postmaster)
        await house.start()
        completed, failed = await check(living, await settled_books(house))
        assert completed + failed <= REQUESTS
        assert failed, "the kill fell on no running request: this round showed nothing"


@pytest.mark.parametrize("seed", seeds())
async def test_postgresql_killed_in_the_middle_of_100_requests(seed: int) -> None:
    dice = random.Random(seed)
    async with world(seed) as living:
        house = living.house
        running: list[int] = []

        def kill() -> None:
            running.append(sum(not seen.finished for seen in living.seen))
            os.kill(house.postmaster(), signal.SIGKILL)

        await kill_in_flight(living, dice, kill)
        assert running[0], "the kill fell on no running request: this round showed nothing"
        await ready(house)
        await check(living, await settled_books(house))
        # What was streamed to its end is paid for: the settlement was retried when the database was back.
        assert any(seen.finished for seen in living.seen)


async def gone(pid: int) -> None:
    """The embedded PostgreSQL dies with the server."""
    async with asyncio.timeout(BACK_SECONDS_MAX):
        while (
            Path(f"/proc/{pid}").exists()
            and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
        ):
            await asyncio.sleep(0.02)


async def ready(house: House) -> None:
    """The running server has its database again."""
    async with httpx.AsyncClient() as http, asyncio.timeout(BACK_SECONDS_MAX):
        while (await http.get(f"{house.url}/health/ready")).status_code != httpx.codes.OK:
            await asyncio.sleep(0.1)
