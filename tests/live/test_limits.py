"""Limits at a real server: refused with the limit, the use and the time; other networks feel nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.conftest import make_directory
from tests.live.house import House, open_house, person
from yggdrasil.wire.limits import CloseCode

PER_MINUTE = 30


@pytest.fixture(scope="module")
async def strict() -> AsyncIterator[House]:
    """The free tier, and few sign-ins from one address."""
    place = make_directory()
    more = {
        "YGGDRASIL_TIER_DEFAULT": "free",
        "YGGDRASIL_SIGN_INS_PER_ADDRESS_PER_MINUTE": str(PER_MINUTE),
        "YGGDRASIL_TRUSTED_PROXIES": "127.0.0.1, ::1",
    }
    async with open_house(place, more) as house:
        yield house
    shutil.rmtree(place, ignore_errors=True)


async def test_a_network_that_asks_too_much_is_told_and_another_feels_nothing(strict: House) -> None:
    async with await person(strict, "greedy") as greedy, await person(strict, "modest") as modest:
        clients = [
            httpx.AsyncClient(
                base_url=strict.url, timeout=30, headers={"authorization": f"Bearer {await one.token()}"}
            )
            for one in (greedy, modest)
        ]
        try:
            many, few = clients
            limits = (await many.get("/api/v1/users/me/limits")).json()
            assert limits["tier"] == "free"
            assert [one["name"] for one in limits["items"]] == ["devices", "sockets", "requests", "bytes"]
            refused = None
            for _ in range(5_000):
                # The plainest route is answered before the router, and counts all the same.
                answer = await many.get("/api/v1/devices")
                if answer.status_code == 429:
                    refused = answer
                    break
                assert answer.status_code == 200
            assert refused is not None
            problem = refused.json()
            assert problem["code"] == "limit_reached"
            assert problem["limit"] == next(
                one["limit"] for one in limits["items"] if one["name"] == "requests"
            )
            assert problem["used"] >= problem["limit"] - 1
            assert int(refused.headers["retry-after"]) == problem["retry_after_seconds"] >= 1
            openai = await many.post("/v1/chat/completions", json={"model": "m", "messages": []})
            if openai.status_code == 429:
                assert openai.json()["error"]["type"] == "rate_limit_error"
            assert (await few.get("/api/v1/devices")).status_code == 200
            used = {
                one["name"]: one["used"] for one in (await few.get("/api/v1/users/me/limits")).json()["items"]
            }
            assert used["requests"] <= 4
        finally:
            for client in clients:
                await client.aclose()


async def test_one_address_signs_in_so_often_whatever_it_says_of_itself(strict: House) -> None:
    async with httpx.AsyncClient(base_url=strict.url, timeout=30) as http:

        async def tries(address: str, times: int) -> list[int]:
            # What a stranger writes to the left of what the proxy wrote.
            told = [f"10.0.0.{number}, {address}" for number in range(times)]
            return [
                (
                    await http.post("/api/v1/users/refresh", headers={"x-forwarded-for": one}, json={})
                ).status_code
                for one in told
            ]

        first = await tries("198.51.100.7", PER_MINUTE + 5)
        assert first[:PER_MINUTE] == [400] * PER_MINUTE
        assert 429 in first[PER_MINUTE:]
        assert await tries("198.51.100.8", 1) == [400]
        refused = await http.post(
            "/api/v1/users/login", headers={"x-forwarded-for": "198.51.100.7"}, json={"email": "a@b.c"}
        )
        assert refused.status_code == 429
        assert refused.json()["limit"] == PER_MINUTE
        assert int(refused.headers["retry-after"]) >= 1


async def test_one_address_dials_so_often(strict: House) -> None:
    heard = []
    for _ in range(PER_MINUTE + 5):
        socket = await connect(
            f"ws://127.0.0.1:{strict.port}/bifrost",
            subprotocols=[Subprotocol("bifrost.v1")],
            additional_headers={"x-forwarded-for": "198.51.100.9"},
            compression=None,
        )
        first = json.loads(await socket.recv())
        heard.append(first["type"])
        if first["type"] == "error":
            assert (first["code"], first["retry_after_ms"] >= 1_000) == ("limit_reached", True)
            await socket.wait_closed()
            assert socket.close_code == CloseCode.FULL
        await socket.close()
    assert heard[:PER_MINUTE] == ["challenge"] * PER_MINUTE
    assert set(heard[PER_MINUTE:]) <= {"challenge", "error"}
    assert "error" in heard[PER_MINUTE:]
