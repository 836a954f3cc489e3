"""A server in this process, asked over its real socket, with A, B and C in it and what A and D once had."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import structlog

from tests.isolation.conftest import Two, note_everything, open_two, trade, trader
from tests.isolation.rows import Rows
from tests.isolation.timed_server import lift_limits
from tests.live.house import IDS, House, Script, fund, selling
from yggdrasil.config import load_settings
from yggdrasil.demo.mail import CodeMail
from yggdrasil.observe import _replace_exc_info
from yggdrasil.server import _granian, _listening
from yggdrasil.services import Services, build
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.hand_over import HandOver
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile

STATES = ("foreign", "removed", "erased")
"""A has it; A had it and removed it; D had it, and D's account is deleted."""

NEVER_REMOVED = {
    "model": "a word of the market",
    "bought": "a trade is kept as long as the account",
    "sold": "a trade is kept as long as the account",
    "registration": "a decision is kept as long as the account",
    "network": "ends with the account",
    "user": "ends with the account",
    "idempotency": "belongs to a trade",
    "cursor": "no thing of its own",
}
"""What its owner cannot remove, so that there is none in the state `removed`."""


@dataclass
class Stand:
    """`ids`: by state, then by what they name."""

    services: Services
    house: House
    two: Two
    key_b: str
    method_b: str
    ids: dict[str, dict[str, str]]
    rows: Rows

    @property
    def port(self) -> int:
        return self.house.port


@asynccontextmanager
async def open_stand(place: Path) -> AsyncIterator[Stand]:
    """Everything, made and settled; stopped at the end."""
    async with AsyncExitStack() as stack:
        stack.enter_context(_quiet())
        house = House(place, await stack.enter_async_context(CodeMail()))
        services = await stack.enter_async_context(_served(house))
        two = await stack.enter_async_context(open_two(house))
        erased = await _erased(services, house)
        removed = await _removed(house, two)
        await _nothing_by_itself(services)
        key_b = await two.b.create_key("of B")
        me_b = (await two.http_b.get("/api/v1/users/me")).json()
        method_b = (await two.b.payment_methods())[0]["method_id"]
        mine = [me_b["network_id"], me_b["user_id"], key_b["key_id"], method_b]
        named = {
            name: value for name, value in two.known.items() if name not in ("model", "cursor", "key_text")
        }
        rows = await Rows.open(services, [*named.values(), *_rows_of(removed)], mine)
        stack.push_async_callback(rows.close)
        ids = {"foreign": two.known, "removed": removed, "erased": erased}
        yield Stand(services, house, two, key_b["key"], method_b, ids, rows)


def _rows_of(removed: dict[str, str]) -> list[str]:
    return [value for name, value in removed.items() if name not in ("offer", "key_text")]


@asynccontextmanager
async def _served(house: House) -> AsyncIterator[Services]:
    settings = load_settings(house.environment())
    async with build(settings) as services:
        lift_limits(
            services.users.settings
        )  # A asks for more codes than a person does in a quarter of an hour
        server = _granian(settings, services)
        serving = asyncio.create_task(server.serve())
        try:
            await _listening(settings, serving)
            yield services
        finally:
            services.hub.drain(0)
            await services.marketplace.stop(1.0)
            await services.hub.aclose()
            server.stop()
            await asyncio.wait({serving}, timeout=10)


@contextmanager
def _quiet() -> Iterator[None]:
    """A line for each of 100,000 requests is no help."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[_replace_exc_info, structlog.processors.KeyValueRenderer()],
    )
    try:
        yield
    finally:
        structlog.configure(**before)


async def _nothing_by_itself(services: Services) -> None:
    """The market's own test jobs, and what it writes at each full hour, would change what A has."""
    for task in (services.marketplace._testing, services.marketplace._ticking):
        assert task is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _erased(services: Services, house: House) -> dict[str, str]:
    """D trades, has one of everything, and deletes the account. For nothing: who has money cannot."""
    async with (
        trader(house, "network-d", sells="d-model", cents=0, price_cents=0) as d,
        trader(house, "network-e", sells="e-model", cents=0, price_cents=0) as e,
    ):
        await trade(d, e)
        await note_everything(house, d, "network-d")
        token = await d.account.token()
    # After its device has hung up: nothing of D is left to call back.
    async with httpx.AsyncClient(base_url=house.url, headers={"authorization": f"Bearer {token}"}) as http:
        (await http.delete("/api/v1/users/me")).raise_for_status()
    await services.users.sweep()
    return d.known


async def _taken_back(house: House, holds: str) -> tuple[str, str]:
    """An ask of A's that A denied, and a hand-over that A revoked."""
    name = "network-a-gone-away"
    file = IdentityFile(house.place / f"{name}.json")
    file.save(Identity.new(house.url, name, IDS))
    async with HandOver(file) as away, HandOver(IdentityFile(house.place / "network-a.json")) as home:
        asked = await away.ask("network-a@example.org", name, IDS)
        await away.take(asked, await house.mail.code("network-a@example.org"))
        (given,) = [one for one in await home.given() if one["hand_over_id"] != holds]
        await home.revoke(UUID(given["hand_over_id"]))
        asked = await away.ask("network-a@example.org", name, IDS)
        await house.mail.code("network-a@example.org")
        await home.deny(asked.flow)
    return str(asked.flow), given["hand_over_id"]


async def _removed(house: House, two: Two) -> dict[str, str]:
    """What A had for a while: a device that sold, with its provider and offer; a key, a method, a sign-in."""
    file = IdentityFile(house.place / "network-a-gone.json")
    file.save(Identity.new(house.url, "network-a-gone", IDS))
    async with Account(file) as gone:
        flow = await gone.begin("network-a@example.org")
        await two.house.mail.code("network-a@example.org")  # that of the sign-in nobody ended
        await gone.verify(flow, await house.mail.code("network-a@example.org"))
        device = await gone.register_device(name="Gone", world="Alfheim")
        async with selling(gone, model="gone-model", script=Script(words=1)):
            offers: list[dict[str, Any]] = await gone.listed(
                "/api/v1/marketplace/providers", {"model": "gone-model"}
            )
            provider = str(gone.identity.provider)
            await gone.call("DELETE", f"/api/v1/marketplace/providers/{provider}")
        key = await gone.create_key("gone")
        await gone.call("DELETE", f"/api/v1/keys/{key['key_id']}")
        invitation = await gone.invite("nobody@example.org", name="A", role="guest")
        await gone.call("DELETE", f"/api/v1/members/invitations/{invitation['invitation_id']}")
        method = await fund(gone)
        await gone.call("DELETE", f"/api/v1/payments/methods/{method}")
        (await two.http_a.delete("/api/v1/devices/network-a-gone")).raise_for_status()
    ask, hand_over = await _taken_back(house, two.known["hand_over"])
    return {
        "ask": ask,
        "hand_over": hand_over,
        "device_id": "network-a-gone",
        "device": device["id"],
        "provider": provider,
        "offer": offers[0]["offer"],
        "key": key["key_id"],
        "key_text": key["key"],
        "method": str(method),
        "flow": str(flow.flow),
        "invitation": invitation["invitation_id"],
    }
