"""Every route in all four roles: what each may, and that the refusal names the role needed.

The routes come from the app itself. A route that is not in `LEAST_ROLE` fails, and so does one that says
something else of itself.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from litestar.routes import HTTPRoute

from tests.conftest import make_directory
from tests.isolation.probes import CHAT, PROBES
from tests.live.house import House, Script, fund, open_house, person, selling
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.errors import Forbidden, NotFound, Unauthenticated
from yggdrasil.hot import CHAT as HOT_CHAT
from yggdrasil.hot import DEVICE, DEVICES
from yggdrasil.kernel import SystemClock, SystemIds
from yggdrasil.services import Services
from yggdrasil.users.roles import LEAST
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.wire.proof import encode_bytes

MARKET = "/api/v1/marketplace"
ORDER = ("guest", "member", "admin", "owner")
NOT_ASKED = "nobody in a network is asked"

LEAST_ROLE: dict[str, str] = {
    f"POST /api/v1/users/{name}": NOT_ASKED
    for name in ("register", "login", "verify", "refresh", "switch", "hand-overs/ask", "hand-overs/take")
} | {
    "POST /api/v1/users/logout": "guest",
    "GET /api/v1/users/me": "guest",
    "PUT /api/v1/users/me": "guest",
    "DELETE /api/v1/users/me": "guest",
    "GET /api/v1/users/me/openings": "guest",
    "GET /api/v1/users/me/hand-over-asks": "guest",
    "POST /api/v1/users/me/hand-over-asks/{flow}/approve": "guest",
    "DELETE /api/v1/users/me/hand-over-asks/{flow}": "guest",
    "GET /api/v1/users/me/hand-overs": "guest",
    "DELETE /api/v1/users/me/hand-overs/{hand_over_id}": "guest",
    "GET /api/v1/users/me/networks": "guest",
    "POST /api/v1/users/me/networks": "guest",
    "DELETE /api/v1/users/me/networks/{network_id}": "guest",
    "GET /api/v1/users/me/limits": "guest",
    "GET /api/v1/users/me/visibility": "guest",
    "GET /api/v1/users/me/visibility/members": "admin",
    "GET /api/v1/audit": "admin",
    "GET /api/v1/audit/head": "admin",
    "GET /api/v1/members": "admin",
    "PUT /api/v1/members/{user_id}": "admin",
    "DELETE /api/v1/members/{user_id}": "admin",
    "GET /api/v1/members/invitations": "admin",
    "POST /api/v1/members/invitations": "admin",
    "DELETE /api/v1/members/invitations/{invitation_id}": "admin",
    "GET /api/v1/keys": "guest",
    "POST /api/v1/keys": "guest",
    "POST /api/v1/keys/{key_id}/rotate": "guest",
    "DELETE /api/v1/keys/{key_id}": "guest",
    "GET /api/v1/devices": "guest",
    "POST /api/v1/devices": "member",
    "GET /api/v1/devices/{device_id}": "guest",
    "PUT /api/v1/devices/{device_id}": "member",
    "DELETE /api/v1/devices/{device_id}": "member",
    "GET /api/v1/payments/methods": "admin",
    "POST /api/v1/payments/methods": "admin",
    "POST /api/v1/payments/methods/{method_id}/verify": "admin",
    "DELETE /api/v1/payments/methods/{method_id}": "admin",
    "POST /api/v1/payments/process": "admin",
    "GET /api/v1/payments/balance": "admin",
    f"POST {MARKET}/providers/register": "member",
    f"GET {MARKET}/providers": "guest",
    f"GET {MARKET}/providers/{{provider_id}}": "guest",
    f"PUT {MARKET}/providers/{{provider_id}}": "member",
    f"DELETE {MARKET}/providers/{{provider_id}}": "member",
    f"GET {MARKET}/providers/{{provider_id}}/work": "member",
    f"GET {MARKET}/sharing": "member",
    f"GET {MARKET}/registrations": "member",
    f"GET {MARKET}/registrations/{{registration_id}}": "member",
    f"POST {MARKET}/registrations/{{registration_id}}/appeal": "member",
    f"POST {MARKET}/requests": "guest",
    f"GET {MARKET}/requests/{{transaction_id}}": "guest",
    f"GET {MARKET}/requests/{{transaction_id}}/result": "guest",
    f"POST {MARKET}/requests/{{transaction_id}}/cancel": "guest",
    f"POST {MARKET}/requests/{{transaction_id}}/feedback": "guest",
    f"GET {MARKET}/transactions": "guest",
    f"GET {MARKET}/transactions/{{transaction_id}}": "guest",
    f"GET {MARKET}/analytics/provider": "guest",
    f"GET {MARKET}/analytics/requester": "guest",
    "GET /v1/models": "guest",
    "GET /v1/models/{model}": "guest",
    "POST /v1/chat/completions": "guest",
    "POST /v1/responses": "guest",
    "POST /v1/embeddings": "guest",
    **{
        f"GET /api/v1/admin/{name}": NOT_ASKED
        for name in ("overview", "networks", "providers", "holds", "audit")
    },
    "POST /api/v1/admin/networks/{network_id}/open": NOT_ASKED,
    "PUT /api/v1/admin/networks/{network_id}/tier": NOT_ASKED,
    "POST /api/v1/admin/requests/{request_id}/open": NOT_ASKED,
    **{
        f"GET {path}": NOT_ASKED
        for path in (
            "/health/live",
            "/health/ready",
            "/health/isolation",
            "/metrics",
            "/dev/mail",
            "/dev/mail/messages",
            "/docs",
            "/docs/errors",
            "/docs/errors/{code}",
            "/schema/openapi.json",
            "/schema",
            "/schema/{path}",
        )
    },
}
ENDS_THE_CALLER = {"POST /api/v1/users/logout", "DELETE /api/v1/users/me"}
ANY_PROOF = encode_bytes(bytes(64))
BODIES: dict[str, Any] = {
    "PUT /api/v1/users/me": {"display_name": "Somebody"},
    "POST /api/v1/users/me/networks": {"invitation": "ygi_x", "at_seconds": 0, "proof": ANY_PROOF},
    "POST /api/v1/members/invitations": {"email": "new@example.org", "role": "guest", "name": "House"},
    "POST /api/v1/keys": {"name": "x"},
    "POST /api/v1/payments/methods": {"kind": "sandbox", "purpose": "spend", "gateway_token": "sandbox_ok"},
}


def handlers() -> dict[str, Any]:
    nothing = SimpleNamespace(
        mailer=DevMailer(SystemClock(), development=True),
        ids=SystemIds(),
        settings=Settings(),
        clock=SystemClock(),
        **dict.fromkeys(
            (
                "users",
                "devices",
                "payments",
                "marketplace",
                "nornen",
                "hub",
                "operators",
                "readiness",
                "sentinel",
                "quotas",
                "audit",
                "visibility",
            )
        ),
    )
    return {
        f"{method} " + re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path): handler
        for route in create_app(cast(Services, nothing)).routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods - {"OPTIONS", "HEAD"}
    }


def test_every_route_says_what_its_caller_does() -> None:
    found = handlers()
    assert set(found) == set(LEAST_ROLE)
    said = {
        name: LEAST[handler.opt["action"]].value if "action" in handler.opt else NOT_ASKED
        for name, handler in found.items()
    }
    assert said == LEAST_ROLE
    for name, handler in found.items():
        asks = "caller" in handler.parsed_fn_signature.parameters
        assert asks == ("action" in handler.opt), name


def test_what_is_answered_before_the_router_is_for_every_role() -> None:
    """No role is looked at there, so nothing may stand there that a guest may not."""
    for route in (f"GET {DEVICES}", f"GET {DEVICE}", f"POST {HOT_CHAT}"):
        assert LEAST_ROLE[route] == "guest"


@dataclass
class Family:
    """A network with one person in each role, and their devices at home."""

    house: House
    accounts: dict[str, Account]
    http: dict[str, httpx.AsyncClient]
    network: str


@pytest.fixture(scope="module")
async def family() -> AsyncIterator[Family]:
    place = make_directory()
    async with open_house(place) as house, AsyncExitStack() as stack:
        accounts: dict[str, Account] = {}
        for role in reversed(ORDER):
            account = await stack.enter_async_context(await person(house, f"the-{role}"))
            if role == "owner":
                await fund(account, 1_000)
            else:
                await accounts["owner"].invite(f"the-{role}@example.org", name="House", role=role)  # type: ignore[arg-type]
                joined = await account.accept(await house.mail.invitation(f"the-{role}@example.org"))
                await account.switch(UUID(joined["network_id"]))
                if role != "guest":
                    await account.register_device(name=role, world="Alfheim")
            accounts[role] = account
        clients = {}
        for role, account in accounts.items():
            headers = {"authorization": f"Bearer {await account.token()}"}
            clients[role] = await stack.enter_async_context(
                httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30)
            )
        network = str((await accounts["owner"].session()).network_id)
        yield Family(house, accounts, clients, network)
    shutil.rmtree(place, ignore_errors=True)


def body_of(name: str) -> Any:
    method, path = name.split(" ")
    if name in BODIES:
        return BODIES[name]
    return next(
        (slot.body(str(uuid4())) for slot in PROBES[method, path].slots if slot.body is not None), None
    )


ASKED = sorted(
    name for name, least in LEAST_ROLE.items() if least != NOT_ASKED and name not in ENDS_THE_CALLER
)


@pytest.mark.parametrize("name", ASKED)
async def test_each_role_may_what_the_table_says(family: Family, name: str) -> None:
    method, path = name.split(" ")
    # An offer's pseudonym: a provider's id there is another question, asked below.
    made = (
        {"{provider_id}": f"offer_{uuid4().hex}"} if name == f"GET {MARKET}/providers/{{provider_id}}" else {}
    )
    url = re.sub(r"\{\w+\}", lambda found: made.get(found[0], str(uuid4())), path)
    for role in ORDER:
        answer = await family.http[role].request(method, url, json=body_of(name))
        allowed = ORDER.index(role) >= ORDER.index(LEAST_ROLE[name])
        refused = answer.status_code == httpx.codes.FORBIDDEN and "needs the role" in answer.text
        assert refused == (not allowed), (role, answer.status_code, answer.text)
        if refused:
            assert f"needs the role {LEAST_ROLE[name]}; yours is {role}" in answer.json()["detail"]
        else:
            assert answer.status_code < 500 or "no_provider" in answer.text, answer.text
            assert answer.status_code != httpx.codes.UNAUTHORIZED, answer.text


async def test_a_guest_sees_no_device_and_holds_no_socket(family: Family) -> None:
    guest, member = family.http["guest"], family.http["member"]
    theirs = (await member.get(DEVICES, params={"owner": "network"})).json()["items"]
    assert len(theirs) == 3
    for path in (DEVICES, f"{DEVICES}?limit=5"):  # before the router and behind it
        assert (await guest.get(path)).json()["items"] == []
    refused = await guest.get(DEVICES, params={"owner": "network"})
    assert "needs the role member; yours is guest" in refused.text
    for one in theirs:
        seen, never = (
            await guest.get(f"{DEVICES}/{one['device_id']}"),
            await guest.get(f"{DEVICES}/{'x' * len(one['device_id'])}"),
        )
        assert (seen.status_code, seen.content) == (404, never.content)
    refused = await guest.get(f"{MARKET}/providers/{uuid4()}")
    assert "needs the role member; yours is guest" in refused.text
    account = family.accounts["guest"]
    with pytest.raises(Unauthenticated):
        async with Connection.of(account.identity, account.token) as connection:
            await connection.live()


async def test_a_member_leaves_the_things_of_others_alone(family: Family) -> None:
    owner, admin, member = (family.http[role] for role in ("owner", "admin", "member"))
    path = f"{DEVICES}/the-owner-device"
    assert (await member.get(path)).status_code == httpx.codes.OK
    for answer in (await member.put(path, json={"name": "stolen"}), await member.delete(path)):
        assert answer.status_code == httpx.codes.FORBIDDEN
        assert "needs the role admin; yours is member" in answer.text
    assert (await admin.put(path, json={"name": "Hall"})).json()["name"] == "Hall"
    key = (await owner.post("/api/v1/keys", json={"name": "owner's"})).json()["key_id"]
    for other in (admin, member):
        assert key not in (await other.get("/api/v1/keys")).text
        foreign, never = [await other.delete(f"/api/v1/keys/{one}") for one in (key, uuid4())]
        assert (foreign.status_code, foreign.content) == (404, never.content)


async def test_a_member_spends_from_the_wallet_and_sees_nothing_of_it(family: Family) -> None:
    async with AsyncExitStack() as stack:
        seller = await stack.enter_async_context(await person(family.house, "seller"))
        await fund(seller)
        await stack.enter_async_context(selling(seller, model="role-model", script=Script(words=2)))
        before = (await family.http["owner"].get("/api/v1/payments/balance")).json()
        body = {**CHAT, "model": "role-model"}
        spent = 0
        for role in ORDER:
            answer = await family.http[role].post("/v1/chat/completions", json=body)
            assert answer.status_code == httpx.codes.OK, answer.text
            spent += int(answer.headers["x-yggdrasil-cost-microcents"])
            items = (await family.http[role].get(f"{MARKET}/transactions")).json()["items"]
            assert len(items) == 1  # one's own, and nobody else's
        after = (await family.http["admin"].get("/api/v1/payments/balance")).json()
        assert before["wallet_posted_microcents"] - after["wallet_posted_microcents"] == spent > 0
        for role in ORDER:
            report = (await family.http[role].get(f"{MARKET}/analytics/requester")).json()
            assert report["total"]["requests"] == 1
            total = report["network_total"]
            sees = role in ("owner", "admin")
            assert (total["microcents"] if total else None) == (spent if sees else None)


async def test_who_manages_money_no_more_takes_the_own_methods_along(family: Family) -> None:
    owner, admin = family.accounts["owner"], family.accounts["admin"]
    kept = {method["method_id"] for method in await owner.payment_methods()}
    taken = UUID(
        (await admin.add_payment_method(kind="sandbox", gateway_token="sandbox_ok", purpose="spend"))[
            "method_id"
        ]
    )
    await admin.verify_payment_method(taken)
    assert str(taken) in {method["method_id"] for method in await owner.payment_methods()}
    user_id = (await admin.session()).user_id
    await owner.change_member(user_id, "member")
    left = {method["method_id"] for method in await owner.payment_methods()}
    assert str(taken) not in left
    assert left <= kept
    assert left
    # The admin's token of before is refused, and the account goes on with the role of now.
    with pytest.raises(Forbidden, match="needs the role admin; yours is member"):
        await admin.payment_methods()
    assert (await admin.devices())[0]["device_id"]
    await owner.change_member(user_id, "admin")


async def test_removal_closes_the_socket_here_and_leaves_the_one_at_home(family: Family) -> None:
    """The last test of the family: its member goes, in the middle of everything."""
    async with AsyncExitStack() as stack:
        at_home = await stack.enter_async_context(
            await person(family.house, "the-member", device_id="second")
        )
        home = Connection.of(at_home.identity, at_home.token)
        await stack.enter_async_context(home)
        await home.live()
        account = family.accounts["member"]
        connection = await stack.enter_async_context(
            selling(account, model="member-model", script=Script(words=1), audience="network", price_cents=0)
        )
        models = (await family.http["guest"].get("/v1/models")).text
        assert "member-model" in models
        user_id = (await account.session()).user_id
        await family.accounts["owner"].remove_member(user_id)
        with pytest.raises(Unauthenticated):
            await connection.wait()
        assert "member-model" not in (await family.http["guest"].get("/v1/models")).text
        assert (await family.http["member"].get("/api/v1/users/me")).status_code == httpx.codes.UNAUTHORIZED
        theirs = (await family.http["owner"].get(DEVICES, params={"owner": "network"})).json()["items"]
        assert [one["device_id"] for one in theirs] == ["the-admin-device", "the-owner-device"]
        assert [one.device_id for one in await home.discover()] == ["second", "the-member-device"]
        assert [one["role"] for one in await at_home.networks()] == ["owner"]
        with pytest.raises(NotFound):
            await at_home.switch(UUID(family.network))
