"""The REST edge: /api/v1/payments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, Request, Response
from litestar.di import Provide

from tests.payments.support import Money
from tests.support import make_network
from yggdrasil.errors import InvalidInput, YggdrasilError
from yggdrasil.kernel import Network
from yggdrasil.payments.routes import decode_cursor, encode_cursor, router
from yggdrasil.payments.service import Payments

ROOT = "/api/v1/payments"
ABSENT = "00000000-0000-4000-8000-000000000000"


def problem(_request: Request[Any, Any, Any], error: YggdrasilError) -> Response[dict[str, Any]]:
    return Response(
        {"code": error.code, "detail": error.detail, "field": error.field}, status_code=error.status
    )


@pytest.fixture
async def scope(money: Money) -> Network:
    return await make_network(money.database, money.ids, money.clock)


@pytest.fixture
async def client(money: Money, scope: Network) -> AsyncIterator[httpx.AsyncClient]:
    async def provide_caller() -> Network:
        return scope

    async def provide_payments() -> Payments:
        return money.payments

    app = Litestar(
        [router],
        dependencies={"caller": Provide(provide_caller), "payments": Provide(provide_payments)},
        exception_handlers={YggdrasilError: problem},
    )
    # Not Litestar's test client: it runs the app on a loop of its own, and connections belong to this one.
    transport = httpx.ASGITransport(cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def test_from_method_to_money(client: httpx.AsyncClient) -> None:
    made = await client.post(
        f"{ROOT}/methods",
        json={"kind": "sandbox", "purpose": "both", "gateway_token": "sandbox_ok", "label": "mine"},
    )
    assert made.status_code == 201
    method = made.json()
    assert method["state"] == "unverified"
    assert "gateway_token" not in method
    process = {"method_id": method["method_id"], "amount_cents": 500, "idempotency_key": "k"}
    refused = await client.post(f"{ROOT}/process", json=process)
    assert (refused.status_code, refused.json()["code"]) == (402, "payment_method_required")
    verified = await client.post(f"{ROOT}/methods/{method['method_id']}/verify", json={})
    assert (verified.status_code, verified.json()["state"]) == (200, "verified")
    first = await client.post(f"{ROOT}/process", json=process)
    assert (first.status_code, first.json()["state"]) == (200, "succeeded")
    again = await client.post(f"{ROOT}/process", json=process)
    assert (again.status_code, again.content) == (200, first.content)
    other = await client.post(f"{ROOT}/process", json=process | {"amount_cents": 501})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    balance = await client.get(f"{ROOT}/balance")
    assert balance.json() == {
        "currency": "EUR",
        "wallet_posted_microcents": 500_000_000,
        "wallet_held_microcents": 0,
        "wallet_available_microcents": 500_000_000,
        "earnings_microcents": 0,
    }
    listed = (await client.get(f"{ROOT}/methods")).json()
    assert listed == {"items": [verified.json()], "next": None}
    removed = await client.delete(f"{ROOT}/methods/{method['method_id']}")
    assert (removed.status_code, removed.content) == (204, b"")
    assert (await client.get(f"{ROOT}/methods")).json() == {"items": [], "next": None}


async def test_foreign_absent_and_removed_are_the_same_bytes(
    client: httpx.AsyncClient, money: Money, scope: Network
) -> None:
    theirs = await money.network()
    (foreign,) = await money.payments.list_methods(theirs)
    removed = await money.method(scope)
    await money.payments.remove_method(scope, removed)
    for method, path, body in (
        ("POST", "/methods/{}/verify", {}),
        ("DELETE", "/methods/{}", None),
        ("POST", "/process", {"amount_cents": 500, "idempotency_key": "k"}),
    ):
        seen = set()
        for method_id in (foreign.method_id, removed, money.ids.uuid()):
            json = body if path != "/process" else {**(body or {}), "method_id": str(method_id)}
            answer = await client.request(method, ROOT + path.format(method_id), json=json)
            headers = tuple(sorted((k, v) for k, v in answer.headers.items() if k != "date"))
            seen.add((answer.status_code, answer.content, headers))
        assert len(seen) == 1
        assert seen.pop()[0] == 404
    assert len(await money.payments.list_methods(theirs)) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/methods", {"kind": "gold", "purpose": "both", "gateway_token": "sandbox_ok"}),
        ("/methods", {"kind": "sandbox", "purpose": "both"}),
        (
            "/methods",
            {"kind": "sandbox", "purpose": "both", "gateway_token": "sandbox_ok", "state": "verified"},
        ),
        ("/methods", {"kind": "sandbox", "purpose": "both", "gateway_token": "4242424242424242"}),
        ("/process", {"method_id": "x", "amount_cents": 500, "idempotency_key": "k"}),
        ("/process", {"method_id": ABSENT, "amount_cents": 5.5, "idempotency_key": "k"}),
        ("/process", {"method_id": ABSENT, "amount_cents": 10**30, "idempotency_key": "k"}),
        ("/process", {"method_id": ABSENT, "amount_cents": 49, "idempotency_key": "k"}),
        ("/process", {"method_id": ABSENT, "amount_cents": 50, "idempotency_key": ""}),
        ("/process", {"method_id": ABSENT, "amount_cents": 50, "idempotency_key": "a\u0000"}),
    ],
)
async def test_bad_bodies_change_nothing(
    client: httpx.AsyncClient, money: Money, scope: Network, path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(ROOT + path, json=body)
    assert answer.status_code == 400
    assert await money.payments.list_methods(scope) == []


async def test_pages(client: httpx.AsyncClient, money: Money, scope: Network) -> None:
    ids = []
    for number in range(5):
        method = await money.payments.add_method(
            scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok", label=str(number)
        )
        ids.append(str(method.method_id))
        if number % 2:
            money.clock.advance(1)  # some share a moment
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = (await client.get(f"{ROOT}/methods", params=query)).json()
        seen += [item["method_id"] for item in page["items"]]
        query["cursor"] = page["next"]
    assert page["next"] is None
    assert sorted(seen) == sorted(ids)
    for bad in ({"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"cursor": "ä"}, {"cursor": ""}):
        assert (await client.get(f"{ROOT}/methods", params=bad)).status_code == 400


def test_cursors_are_what_we_made(money: Money) -> None:
    place = money.clock.now(), money.ids.uuid()
    cursor = encode_cursor(*place)
    assert decode_cursor(cursor) == place
    for bad in (cursor + "A", cursor[:-1], cursor + "=", "", "A" * 31, "\u2028"):
        with pytest.raises(InvalidInput):
            decode_cursor(bad)
