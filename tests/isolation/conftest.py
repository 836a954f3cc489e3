"""Two networks in one live server: A, who has one of everything, and B, who is alone with A's ids."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
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
class Two:
    """`known`: A's ids by what they name."""

    house: House
    a: Account
    b: Account
    http_a: httpx.AsyncClient
    http_b: httpx.AsyncClient
    known: dict[str, str]
    online: Connection

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


async def handed_over(house: House) -> tuple[str, str]:
    """An ask of A's that is open, and a hand-over that holds."""
    email = "network-a@example.org"
    file = IdentityFile(house.place / "network-a-away.json")
    file.save(Identity.new(house.url, "away", IDS))
    async with HandOver(file) as away, HandOver(IdentityFile(house.place / "network-a.json")) as home:
        asked = await away.ask(email, "away", IDS)
        await away.take(asked, await house.mail.code(email))
        (given,) = await home.given()
        again = await away.ask(email, "away", IDS)
        await house.mail.code(email)
    return str(again.flow), given["hand_over_id"]


@pytest.fixture(scope="package")
async def two() -> AsyncIterator[Two]:
    place = make_directory()
    async with open_house(place) as house, AsyncExitStack() as stack:
        a = await stack.enter_async_context(await person(house, "network-a"))
        b = await stack.enter_async_context(await person(house, "network-b"))
        c = await stack.enter_async_context(await person(house, "network-c"))
        for account in (a, b, c):
            await fund(account, 1_000)
        online = await stack.enter_async_context(selling(a, model=MODEL, script=Script(words=2)))
        # C sells too, so that A has bought as well as sold.
        await stack.enter_async_context(selling(c, model="other-model", script=Script(words=2)))
        clients = []
        for account in (a, b, c):
            headers = {"authorization": f"Bearer {await account.token()}"}
            clients.append(
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30)
                )
            )
        http_a, http_b, http_c = clients

        async def buy(http: httpx.AsyncClient, model: str) -> None:
            body = {
                "kind": "chat",
                "request": {"model": model, "messages": [{"role": "user", "content": "hello"}]},
            }
            (await http.post("/api/v1/marketplace/requests", json=body)).raise_for_status()

        await buy(http_c, MODEL)
        await buy(http_a, "other-model")
        key = await a.create_key("probe")
        mine = await a.transactions()
        offers = (await http_a.get("/api/v1/marketplace/providers", params={"model": MODEL})).json()["items"]
        registrations = (await http_a.get("/api/v1/marketplace/registrations")).json()["items"]
        ask, hand_over = await handed_over(house)
        flow = await a.begin("network-a@example.org")
        methods = await a.payment_methods()
        invitation = await a.invite("network-b@example.org", name="A", role="guest")
        me = await a.session()
        known = {
            "ask": ask,
            "hand_over": hand_over,
            "device_id": a.identity.device_id,
            "device": str(a.identity.device),
            "provider": str(a.identity.provider),
            "offer": offers[0]["offer"] if "offer" in offers[0] else offers[0]["id"],
            "bought": next(one["transaction_id"] for one in mine if one["side"] == "requester"),
            "sold": next(one["transaction_id"] for one in mine if one["side"] == "provider"),
            "key": key["key_id"],
            "registration": registrations[0]["registration_id"],
            "method": methods[0]["method_id"],
            "invitation": invitation["invitation_id"],
            "network": str(me.network_id),
            "user": str(me.user_id),
            "flow": str(flow.flow),
            "cursor": (await http_a.get("/api/v1/keys", params={"limit": 1})).json()["next"] or "",
        }
        yield Two(house, a, b, http_a, http_b, known, online)
    shutil.rmtree(place, ignore_errors=True)
