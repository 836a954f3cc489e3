"""What surrounds an answer: its headers and id, what a cache may keep, where a cursor leads, what an error
quotes.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from uuid import UUID

import httpx
import pytest
from litestar import Litestar, get

from tests.isolation.conftest import Two
from yggdrasil import problems
from yggdrasil.devices.model import registration_message
from yggdrasil.devices.paging import decode_cursor, encode_cursor
from yggdrasil.wire.proof import encode_bytes

PATHS = (
    "/api/v1/users/me",
    "/api/v1/devices",
    "/api/v1/keys",
    "/api/v1/payments/balance",
    "/api/v1/marketplace/transactions",
    "/api/v1/marketplace/providers",
    "/v1/models",
    "/api/v1/devices/network-a-none",
)
HEADERS = {
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "server",
    "x-content-type-options",
    "x-request-id",
}
ANSWERS = 40
GAP_MIN = 2**32
"""Of 40 random numbers of 64 bits two are nearer than this once in some million times."""


async def test_every_header_is_known_and_the_same_for_all(two: Two) -> None:
    """A header more would be told to everybody: it is looked at here before."""
    for path in PATHS:
        mine, theirs = await two.http_a.get(path), await two.http_b.get(path)
        assert set(mine.headers) | set(theirs.headers) <= HEADERS, path
        for name in HEADERS - {"content-length", "date", "x-request-id", "content-type"}:
            assert mine.headers.get(name) == theirs.headers.get(name), (path, name)


async def test_no_answer_is_for_a_cache(two: Two) -> None:
    for path in PATHS:
        answer = await two.http_b.get(path, headers={"if-none-match": '"1"', "if-modified-since": "x"})
        assert answer.status_code in (httpx.codes.OK, httpx.codes.NOT_FOUND), path
        assert answer.headers["cache-control"] == "no-store", path


async def test_the_id_of_a_request_tells_nothing_of_others(two: Two) -> None:
    numbers = []
    for _ in range(ANSWERS):
        answer = await two.http_b.get("/api/v1/keys")
        numbers.append(int(answer.headers["x-request-id"], 16))
    ordered = sorted(numbers)
    assert min(after - before for before, after in pairwise(ordered)) > GAP_MIN
    assert numbers != ordered


def test_a_cursor_is_the_place_itself() -> None:
    """The same place has the same cursor for everybody, however many were given in between."""
    first = encode_cursor("pc", "7")
    for number in range(100):
        encode_cursor("of another", str(number))
    assert encode_cursor("pc", "7") == first
    assert decode_cursor(first, parts=2) == ("pc", "7")


async def test_a_conflict_quotes_no_row(two: Two) -> None:
    """Two registrations at once, so that the database itself may be the one that finds the second."""
    network = UUID((await two.http_b.get("/api/v1/users/me")).json()["network_id"])
    body = register_body(two, network)
    for _ in range(3):
        answers = await asyncio.gather(*(two.http_b.post("/api/v1/devices", json=body) for _ in range(4)))
        for answer in answers:
            assert answer.status_code == httpx.codes.CONFLICT
            assert answer.json()["detail"] == "device_id: is already used in this network"


def register_body(two: Two, network: UUID) -> dict[str, object]:
    key, device_id = two.b.identity.private_key(), two.b.identity.device_id
    return {
        "device_id": device_id,
        "name": "again",
        "world": "Alfheim",
        "device_key": encode_bytes(key.public_key().public_bytes_raw()),
        "proof": encode_bytes(key.sign(registration_message(network, device_id))),
    }


@pytest.mark.parametrize("path", ["/bug", "/v1/bug"])
async def test_a_bug_is_answered_without_what_it_quotes(path: str) -> None:
    quoted = "Key (device_id)=(somebodys-pc) already exists."

    @get(["/bug", "/v1/bug"])
    async def bug() -> None:
        raise LookupError(quoted)

    app = Litestar(
        [bug], exception_handlers={Exception: problems.handle}, openapi_config=None, logging_config=None
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(path)
    assert answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert "somebodys" not in answer.text
    assert "internal" in answer.text.lower()
