"""A request sent again under its idempotency key after kill -9: the first answer or a conflict, paid once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import make_directory
from tests.live.house import House, Script, chunk, fund, open_house, person, selling
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.links import Job

MODEL = "retry-model"
WALLET_CENTS = 10_000
V1 = "/v1/chat/completions"
REST = "/api/v1/marketplace/requests"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Once."}], "max_tokens": 100}


@dataclass
class Shop:
    """A buyer with a key, and a seller whose jobs are counted."""

    house: House
    buyer: Account
    key: str
    script: Script

    def client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.house.url, headers=headers, timeout=30)

    async def rest(self, http: httpx.AsyncClient, name: str) -> httpx.Response:
        return await http.post(REST, json={"kind": "chat", "request": CHAT, "idempotency_key": name})

    async def v1(self, http: httpx.AsyncClient, name: str) -> httpx.Response:
        return await http.post(V1, json=CHAT, headers={"idempotency-key": name})

    async def back(self) -> None:
        """After a kill: the server again, and the seller at it."""
        await self.house.start()
        async with asyncio.timeout(30), self.client() as http:
            while MODEL not in (await http.get("/v1/models")).text:
                await asyncio.sleep(0.05)

    async def balanced(self) -> int:
        """What was paid in all."""
        books = await self.house.audit()
        for name in ("sum_microcents", "clearing_microcents", "open_holds", "mismatched_balances"):
            assert books[name] == 0, name
        spent = books["cost_microcents"]
        balance = await self.buyer.balance()
        assert balance["wallet_posted_microcents"] == WALLET_CENTS * 1_000_000 - spent
        return spent


@contextlib.asynccontextmanager
async def shop() -> AsyncIterator[Shop]:
    place = make_directory()
    async with (
        open_house(place) as house,
        await person(house, "seller") as seller,
        await person(house, "buyer") as buyer,
    ):
        await fund(seller)
        await fund(buyer, WALLET_CENTS)
        script = Script()
        async with selling(seller, model=MODEL, script=script, price_cents=10):
            script.accepted = 0
            yield Shop(house, buyer, (await buyer.create_key("retry"))["key"], script)
    shutil.rmtree(place, ignore_errors=True)


async def test_after_an_answer_the_same_key_gets_it_again_and_pays_nothing() -> None:
    async with shop() as made:
        async with made.client() as http:
            first, other = await made.rest(http, "rest"), await made.v1(http, "v1")
        assert (first.status_code, other.status_code) == (201, 200)
        paid = await made.balanced()
        assert made.script.accepted == 2
        made.house.kill()
        await made.back()
        async with made.client() as http:
            again = await made.rest(http, "rest")
            assert again.status_code == first.status_code
            assert again.json() == first.json()
            for header in ("x-yggdrasil-transaction", "x-yggdrasil-cost-microcents"):
                assert again.headers[header] == first.headers[header]
            conflict = await made.v1(http, "v1")
            assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "conflict")
            kept = await http.get(f"{REST}/{other.headers['x-yggdrasil-transaction']}/result")
            assert kept.json()["choices"] == other.json()["choices"]
            fresh = await made.v1(http, "another")  # the control: the seller would serve
            assert fresh.status_code == httpx.codes.OK
        assert made.script.accepted == 3
        assert await made.balanced() == paid + int(fresh.headers["x-yggdrasil-cost-microcents"])


async def test_killed_in_the_middle_the_same_key_is_answered_as_failed_and_pays_nothing() -> None:
    async with shop() as made:
        begun = asyncio.Event()
        taken = 0

        async def half(job: Job) -> None:
            nonlocal taken
            taken += 1
            job.accept()
            await job.body()
            await job.send(chunk({"content": " half"}))
            if taken == 2:
                begun.set()
            await asyncio.Event().wait()

        made.script.serve = half
        async with made.client() as http:
            asking = [
                asyncio.create_task(made.rest(http, "rest")),
                asyncio.create_task(made.v1(http, "v1")),
            ]
            await asyncio.wait_for(begun.wait(), 30)
            # While it runs, the key is taken.
            for ask in (made.rest, made.v1):
                for name in ("rest", "v1"):
                    assert (await ask(http, name)).status_code == httpx.codes.CONFLICT
            made.house.kill()
            lost = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(one, httpx.HTTPError) for one in lost)
        made.script.serve = None
        await made.back()
        async with made.client() as http:
            for name in ("rest", "v1"):
                again = await made.rest(http, name)
                transaction: dict[str, Any] = again.json()["transaction"]
                assert (transaction["state"], transaction["total_microcents"]) == ("FAILED", 0)
                assert again.json()["result"] is None
                assert (await made.v1(http, name)).status_code == httpx.codes.CONFLICT
        assert (taken, made.script.accepted) == (2, 0)
        assert await made.balanced() == 0


async def test_an_answer_that_nobody_could_read_is_there_after_the_crash() -> None:
    """Settled, and the server killed before the last word was read: the result was paid for, and is kept."""
    async with shop() as made:
        body = {"kind": "chat", "request": CHAT, "stream": True, "idempotency_key": "read"}
        async with made.client() as http, http.stream("POST", REST, json=body) as answer:
            place = f"{REST}/{answer.headers['x-yggdrasil-transaction']}"
            async with asyncio.timeout(30):
                while (await http.get(place)).json()["state"] == "PROCESSING":
                    await asyncio.sleep(0.02)
            made.house.kill()
        paid_before = None
        await made.back()
        async with made.client() as http:
            again = await made.rest(http, "read")
            text = again.json()["result"]["choices"][0]["message"]["content"]
            assert text == "".join(f"word{number} " for number in range(made.script.words))
            assert json.loads((await http.get(f"{place}/result")).text) == again.json()["result"]
            paid_before = again.json()["transaction"]["total_microcents"]
        assert made.script.accepted == 1
        assert await made.balanced() == paid_before > 0
