"""1,000 requests at once, and wallets that cover exactly 100 of them: the money decides, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator

import httpx

from tests.conftest import make_directory
from tests.live.house import House, Script, chunk, fund, open_house, person, selling
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.links import Job

MODEL = "admission-model"
# One user runs at most 64 requests at a time, so 50 each: his limit is never what decides.
BUYERS = 20
EACH = 50
WALLET_CENTS = 50
HOLD_CENTS = 10
COVERED = BUYERS * WALLET_CENTS // HOLD_CENTS
SELLERS = 4
DECIDED_SECONDS_MAX = 240.0


class Open:
    """Providers that keep every job open, with a word now and then, until all admissions are decided."""

    def __init__(self) -> None:
        self.taken = 0
        self.released = asyncio.Event()

    async def serve(self, job: Job) -> None:
        job.accept()
        self.taken += 1
        await job.body()
        while not self.released.is_set():
            await job.send(chunk({"content": " word"}))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.released.wait(), 5)
        await job.send(chunk({"content": " end"}, "stop"))
        job.done(prompt_tokens=1, completion_tokens=1)


class Crowd:
    """What became of every request."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.answers: Counter[str] = Counter()
        self.streams = 0
        self.ended = 0
        self.decided = asyncio.Event()

    async def ask(self, http: httpx.AsyncClient, key: str, number: int) -> None:
        wishes = {"max_cost_cents": HOLD_CENTS, "deadline_seconds": 600}
        messages = [{"role": "user", "content": f"Number {number}."}]
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": MODEL, "messages": messages, "max_tokens": 1_000, "stream": True}
        path = "/v1/chat/completions"
        if number % 2:
            path = "/api/v1/marketplace/requests"
            body = {"kind": "chat", "request": {**body, "stream": None}, "stream": True, **wishes}
            del body["request"]["stream"]  # type: ignore[attr-defined]
        else:
            body["yggdrasil"] = wishes
        async with http.stream("POST", self.house.url + path, json=body, headers=headers) as answer:
            if answer.status_code == httpx.codes.OK:
                self.answers["admitted"] += 1
            else:
                problem = json.loads(await answer.aread())
                code = problem["error"]["code"] if "error" in problem else problem["code"]
                self.answers[f"{answer.status_code} {code}"] += 1
            if self.answers.total() == BUYERS * EACH:
                self.decided.set()
            if answer.status_code == httpx.codes.OK:
                text = (await answer.aread()).decode()
                self.ended += "[DONE]" in text or "event: done" in text


@contextlib.asynccontextmanager
async def market(opened: Open) -> AsyncIterator[tuple[House, list[Account], list[str]]]:
    place = make_directory()
    async with open_house(place) as house, contextlib.AsyncExitStack() as stack:
        scripts = []
        for number in range(SELLERS):
            seller = await stack.enter_async_context(await person(house, f"seller{number}"))
            await fund(seller)
            scripts.append(Script())
            # A request takes a slot before it is refused: with these, slots never decide.
            offers = selling(seller, model=MODEL, script=scripts[-1], price_cents=100, capacity_jobs=1_024)
            await stack.enter_async_context(offers)
        for script in scripts:
            script.serve = opened.serve
        buyers, keys = [], []
        for number in range(BUYERS):
            buyer = await stack.enter_async_context(await person(house, f"buyer{number}"))
            await fund(buyer, WALLET_CENTS)
            buyers.append(buyer)
            keys.append((await buyer.create_key("crowd"))["key"])
        yield house, buyers, keys
    shutil.rmtree(place, ignore_errors=True)


async def test_a_thousand_at_once_and_exactly_a_hundred_are_admitted() -> None:
    opened = Open()
    async with market(opened) as (house, buyers, keys):
        crowd = Crowd(house)
        limits = httpx.Limits(max_connections=BUYERS * EACH)
        async with (
            httpx.AsyncClient(timeout=DECIDED_SECONDS_MAX, limits=limits) as http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(BUYERS * EACH):
                group.create_task(crowd.ask(http, keys[number % BUYERS], number))
            try:
                await asyncio.wait_for(crowd.decided.wait(), DECIDED_SECONDS_MAX)
                books = await house.audit()
            finally:
                opened.released.set()
        assert crowd.answers == {"admitted": COVERED, "402 insufficient_funds": BUYERS * EACH - COVERED}
        assert (books["open_holds"], books["held_microcents"]) == (COVERED, COVERED * HOLD_CENTS * 1_000_000)
        assert (opened.taken, crowd.ended) == (COVERED, COVERED)
        await check(house, buyers)


async def check(house: House, buyers: list[Account]) -> None:
    """Every wallet paid for its five, and for nothing else."""
    books = await house.audit()
    for name in (
        "sum_microcents",
        "clearing_microcents",
        "open_holds",
        "held_microcents",
        "mismatched_balances",
        "unbalanced_transfers",
    ):
        assert books[name] == 0, name
    assert books["cost_microcents"] == books["fee_microcents"] + books["earnings_microcents"] > 0
    paid = 0
    for buyer in buyers:
        mine = await buyer.transactions()
        assert [one["state"] for one in mine] == ["COMPLETED"] * (WALLET_CENTS // HOLD_CENTS)
        spent = sum(one["total_microcents"] for one in mine)
        balance = await buyer.balance()
        assert balance["wallet_posted_microcents"] == WALLET_CENTS * 1_000_000 - spent
        assert balance["wallet_held_microcents"] == 0
        paid += spent
    assert paid == books["cost_microcents"]
