"""Two networks in one live server: A, who has one of everything, and B, who is alone with A's ids."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import make_directory
from tests.live.house import IDS, House, Script, fund, open_house, person, selling
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.hand_over import HandOver
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile

MODEL = "probe-model"


@dataclass
class Person:
    """An account with a client of its own. `known`: its ids by what they name."""

    account: Account
    http: httpx.AsyncClient
    known: dict[str, str]
    online: Connection


@dataclass
class Two:
    """`known`: A's ids by what they name."""

    house: House
    a: Account
    b: Account
    http_a: httpx.AsyncClient
    http_b: httpx.AsyncClient
    known: dict[str, str]
    online: Connection
    c: Person

    async def view_of_a(self) -> list[Any]:
        """Everything A can see of its own, to show that a probe changed none of it."""
        paths = (
            "/api/v1/users/me",
            "/api/v1/devices",
            "/api/v1/keys",
            "/api/v1/users/me/hand-overs",
            "/api/v1/users/me/hand-over-asks",
            "/api/v1/members",
            "/api/v1/members/invitations",
            "/api/v1/users/me/networks",
            "/api/v1/payments/methods",
            "/api/v1/payments/balance",
            "/api/v1/marketplace/transactions",
            f"/api/v1/marketplace/providers/{self.known['provider']}",
        )
        found = []
        for path in paths:
            answer = await self.http_a.get(path)
            assert answer.status_code == httpx.codes.OK, (path, answer.text)
            seen = answer.json()
            for item in seen.get("items", []):
                item.pop("last_seen_at", None)
            found.append(seen)
        return found


async def handed_over(house: House, name: str) -> tuple[str, str]:
    """An ask of somebody's that is open, and a hand-over that holds."""
    email = f"{name}@example.org"
    file = IdentityFile(house.place / f"{name}-away.json")
    file.save(Identity.new(house.url, "away", IDS))
    async with HandOver(file) as away, HandOver(IdentityFile(house.place / f"{name}.json")) as home:
        asked = await away.ask(email, "away", IDS)
        await away.take(asked, await house.mail.code(email))
        (given,) = await home.given()
        again = await away.ask(email, "away", IDS)
        await house.mail.code(email)
    return str(again.flow), given["hand_over_id"]


@pytest.fixture(scope="package")
async def two() -> AsyncIterator[Two]:
    place = make_directory()
    async with open_house(place) as house, open_two(house) as made:
        yield made
    shutil.rmtree(place, ignore_errors=True)


@asynccontextmanager
async def open_two(house: House) -> AsyncIterator[Two]:
    """A with one of everything, B alone, and C, with whom A trades."""
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(await person(house, "network-b"))
        await fund(b, 1_000)
        http_b = await stack.enter_async_context(await client(house, b))
        c = await stack.enter_async_context(trader(house, "network-c", sells="other-model"))
        a = await stack.enter_async_context(trader(house, "network-a", sells=MODEL))
        # C sells too, so that A has bought as well as sold.
        await trade(a, c)
        await note_everything(house, a, "network-a")
        yield Two(house, a.account, b, a.http, http_b, a.known, a.online, c)


async def client(house: House, account: Account) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {await account.token()}"}
    return httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30)


@asynccontextmanager
async def trader(
    house: House, name: str, *, sells: str, cents: int = 1_000, price_cents: int = 3
) -> AsyncIterator[Person]:
    """Somebody with money whose device is online and sells a model; nothing of him is noted yet."""
    async with AsyncExitStack() as stack:
        account = await stack.enter_async_context(await person(house, name))
        await fund(account, cents)
        online = await stack.enter_async_context(
            selling(account, model=sells, script=Script(words=2), price_cents=price_cents)
        )
        http = await stack.enter_async_context(await client(house, account))
        yield Person(account, http, {"model": sells}, online)


async def trade(one: Person, other: Person) -> None:
    """Each buys of the other, once."""
    for buyer, seller in ((one, other), (other, one)):
        body: dict[str, Any] = {
            "kind": "chat",
            "request": {"model": seller.known["model"], "messages": [{"role": "user", "content": "hello"}]},
            "idempotency_key": f"{buyer.known['model']} for {seller.known['model']}",
        }
        buyer.known["idempotency"] = body["idempotency_key"]
        (await buyer.http.post("/api/v1/marketplace/requests", json=body)).raise_for_status()


async def note_everything(house: House, who: Person, name: str) -> None:
    """One of everything, by what it is."""
    account, http, model = who.account, who.http, who.known["model"]
    key = await account.create_key("probe")
    mine = await account.transactions()
    offers = (await http.get("/api/v1/marketplace/providers", params={"model": model})).json()["items"]
    registrations = (await http.get("/api/v1/marketplace/registrations")).json()["items"]
    ask, hand_over = await handed_over(house, name)
    flow = await account.begin(f"{name}@example.org")
    methods = await account.payment_methods()
    me = (await http.get("/api/v1/users/me")).json()
    invitation = await account.invite("network-b@example.org", name="A", role="guest")
    who.known |= {
        "ask": ask,
        "hand_over": hand_over,
        "device_id": account.identity.device_id,
        "device": str(account.identity.device),
        "provider": str(account.identity.provider),
        "offer": offers[0]["offer"] if "offer" in offers[0] else offers[0]["id"],
        "bought": next(one["transaction_id"] for one in mine if one["side"] == "requester"),
        "sold": next(one["transaction_id"] for one in mine if one["side"] == "provider"),
        "key": key["key_id"],
        "key_text": key["key"],
        "registration": registrations[0]["registration_id"],
        "method": methods[0]["method_id"],
        "flow": str(flow.flow),
        "invitation": invitation["invitation_id"],
        "network": me["network_id"],
        "user": me["user_id"],
        "cursor": (await http.get("/api/v1/keys", params={"limit": 1})).json()["next"] or "",
    }
