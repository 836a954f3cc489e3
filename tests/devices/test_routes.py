"""The REST edge of devices."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar import Litestar, Request
from litestar.di import Provide

from tests.devices.conftest import House
from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.db import Database
from yggdrasil.devices import routes
from yggdrasil.devices.model import registration_message
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Network
from yggdrasil.problems import handle
from yggdrasil.wire.proof import encode_bytes

ROOT = "/api/v1/devices"


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async def caller(request: Request) -> Network:  # type: ignore[type-arg]
        scope = house.tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if scope is None:
            raise Unauthenticated
        return scope

    app = Litestar(
        route_handlers=[routes.router],
        dependencies={
            "caller": Provide(caller),
            "devices": Provide(lambda: house.devices, sync_to_thread=False),
        },
        exception_handlers={Exception: handle},
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://yggdrasil") as client:
        yield client


async def test_the_life_of_a_device(
    http: httpx.AsyncClient,
    database: Database,
    clock: ManualClock,
    ids: SeededIds,
    house: House,
    key: Ed25519PrivateKey,
) -> None:
    me = await make_network(database, ids, clock)
    stranger = await make_network(database, ids, clock)
    house.tokens |= {"me": me, "stranger": stranger}
    mine, theirs = {"authorization": "Bearer me"}, {"authorization": "Bearer stranger"}
    body = {
        "device_id": "phone",
        "name": "Phone",
        "world": "Jotnar",
        "device_key": encode_bytes(key.public_key().public_bytes_raw()),
        "proof": encode_bytes(key.sign(registration_message(me.network_id, "phone"))),
    }
    assert (await http.post(ROOT, json=body)).status_code == 401
    made = await http.post(ROOT, json=body, headers=mine)
    assert made.status_code == 201, made.text
    assert made.json()["world"] == "Jötnar"
    assert (await http.post(ROOT, json=body, headers=mine)).status_code == 409
    for bad, word in (
        (body | {"proof": body["proof"][:-2]}, "proof"),
        (body | {"surprise": 1}, "surprise"),
        ({}, "device_id"),
    ):
        refused = await http.post(ROOT, json=bad, headers=mine)
        assert (refused.status_code, word in refused.text) == (400, True), refused.text
    listed = (await http.get(ROOT, headers=mine)).json()
    assert [item["device_id"] for item in listed["items"]] == ["phone"]
    assert listed["next"] is None
    assert (await http.get(ROOT, params={"limit": 0}, headers=mine)).status_code == 400
    changed = await http.put(f"{ROOT}/phone", json={"name": "New"}, headers=mine)
    assert (changed.json()["name"], changed.json()["world"]) == ("New", "Jötnar")
    for method in ("GET", "PUT", "DELETE"):
        answers = []
        for name in ("phone", "absent"):
            extra = {"json": {"name": "Taken"}} if method == "PUT" else {}
            answer = await http.request(method, f"{ROOT}/{name}", headers=theirs, **extra)
            answers.append((answer.status_code, answer.content))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert (await http.delete(f"{ROOT}/phone", headers=mine)).status_code == 204
    assert (await http.get(f"{ROOT}/phone", headers=mine)).status_code == 404
