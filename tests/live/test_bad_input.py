"""Wrong input of every class, at every operation of the document: a clear 4xx that names field and rule."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.live.house import House, person
from yggdrasil.edge import BODY_BYTES_MAX, NESTING_MAX
from yggdrasil.vedrfolnir.account import Account

NOBODY = "00000000-0000-4000-8000-000000000000"
LISTS = (
    "/api/v1/keys",
    "/api/v1/devices",
    "/api/v1/payments/methods",
    "/api/v1/marketplace/providers",
    "/api/v1/marketplace/transactions",
)


@dataclass
class Stranger:
    """Somebody signed in, who does not read documentation."""

    house: House
    account: Account
    http: httpx.AsyncClient
    operations: list[tuple[str, str]]

    def bodies(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.operations if method in ("POST", "PUT")]


@pytest.fixture(scope="module")
async def stranger(house: House) -> AsyncIterator[Stranger]:
    async with await person(house, "stranger") as account:
        headers = {"authorization": f"Bearer {await account.token()}"}
        async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30) as http:
            paths = (await http.get("/schema/openapi.json")).json()["paths"]
            operations = [
                (method.upper(), re.sub(r"\{[a-z_]+\}", NOBODY, path))
                for path, item in paths.items()
                for method, operation in item.items()
                if method == "get" or "requestBody" in operation
            ]
            yield Stranger(house, account, http, operations)


def problem(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of an answer, in one shape for both APIs."""
    where = f"{answer.request.method} {answer.request.url} {answer.text[:300]}"
    assert answer.status_code == status, where
    assert answer.headers["x-request-id"]
    body = answer.json()
    if answer.request.url.path.startswith("/v1/"):
        assert answer.headers["content-type"] == "application/json", where
        error = body["error"]
        return {"code": error["code"], "detail": error["message"], "field": error["param"]}
    assert answer.headers["content-type"] == "application/problem+json", where
    assert body["status"] == status
    return dict(body)


BODIES = {
    "nothing": (b"", "body: must be a JSON object"),
    "a NUL": (b"\0", "body: must be JSON"),
    "half": (b"{", "body: must be JSON"),
    "two": (b"{}{}", "body: must be JSON"),
    "a list": (b"[]", "body: Expected `object`, got `array`"),
    "a number": (b"5", "body: Expected `object`, got `int`"),
    "null": (b"null", "body: Expected `object`, got `null`"),
    "an unknown field": (b'{"no_such_field": 1}', "no_such_field: there is no such field"),
    "not UTF-8": (b'{"\xff": 1}', "body: must be JSON"),
    "lone surrogate": (b'{"a": "\\ud800"}', ""),
    "deep list": (b"[" * 200_000, "body: Expected `object`"),
    "deep object": (b'{"a":' * 200_000, "a: there is no such field"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_none(stranger: Stranger, name: str) -> None:
    content, said = BODIES[name]
    for method, path in stranger.bodies():
        if name in ("two", "an unknown field", "not UTF-8", "deep object") and path.endswith("/verify"):
            continue  # its body has no required field, so that another fault is found first
        headers = {"content-type": "application/json"}
        found = problem(await stranger.http.request(method, path, content=content, headers=headers))
        assert found["code"] == "invalid_input"
        if name != "two":
            assert said in found["detail"], path
            assert found["field"], path


async def test_other_content_types_are_refused(stranger: Stranger) -> None:
    for method, path in stranger.bodies():
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
            answer = await stranger.http.request(method, path, content=b"{}", headers={"content-type": kind})
            assert problem(answer, 415)["field"] == "content-type"


async def test_a_body_over_the_limit_is_answered_before_the_socket_closes(stranger: Stranger) -> None:
    content = b'{"name": "' + b"x" * BODY_BYTES_MAX + b'"}'

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    headers = {"content-type": "application/json"}
    for method, path in stranger.bodies():
        found = problem(await stranger.http.request(method, path, content=content, headers=headers), 413)
        assert str(BODY_BYTES_MAX) in found["detail"]
    answer = await stranger.http.post("/api/v1/keys", content=unannounced(), headers=headers)
    problem(answer, 413)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/v1/keys", {"name": 5}, "name"),
        ("POST", "/api/v1/keys", {"name": "a\0b"}, "name"),
        ("POST", "/api/v1/keys", {}, "name"),
        (
            "POST",
            "/api/v1/payments/methods",
            {"kind": "sandbox", "purpose": "both", "gateway_token": "a\0"},
            None,
        ),
        (
            "POST",
            "/api/v1/payments/process",
            {"method_id": NOBODY, "amount_cents": "500", "idempotency_key": "k"},
            "amount_cents",
        ),
        (
            "POST",
            "/api/v1/payments/process",
            {"method_id": NOBODY, "amount_cents": 10**30, "idempotency_key": "k"},
            "amount_cents",
        ),
        (
            "POST",
            "/api/v1/payments/process",
            {"method_id": NOBODY, "amount_cents": 5, "idempotency_key": "k\0"},
            "idempotency_key",
        ),
        ("PUT", "/api/v1/devices/stranger-device", {"capabilities": {"a": ["b\0"]}}, "capabilities.a"),
        ("PUT", "/api/v1/devices/stranger-device", {"name": "\u202ex"}, "name"),
        (
            "POST",
            "/api/v1/marketplace/requests",
            {"kind": "chat", "request": {}, "stream": "true"},
            "stream",
        ),
        (
            "POST",
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": "5"},
            "max_tokens",
        ),
        (
            "POST",
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "nope": 1}]},
            "messages[0].nope",
        ),
        ("POST", "/v1/embeddings", {"model": "m", "input": 5}, "input"),
    ],
)
async def test_a_wrong_value_is_named(
    stranger: Stranger, method: str, path: str, body: Any, field: str | None
) -> None:
    found = problem(await stranger.http.request(method, path, json=body))
    if field is not None:
        assert found["field"] == field
        assert field in found["detail"]


async def test_nesting_has_a_limit(stranger: Stranger) -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = {"a": value}
        return value

    path = "/api/v1/devices/stranger-device"
    for depth in (NESTING_MAX, 500, 900, 1_100, 5_000):
        text = b'{"capabilities":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        answer = await stranger.http.put(path, content=text, headers={"content-type": "application/json"})
        assert "deep" in problem(answer)["detail"]
    kept = nested(NESTING_MAX // 2)
    answer = await stranger.http.put(path, json={"capabilities": kept})
    assert answer.json()["capabilities"] == kept


WRONG_QUERIES = (
    "limit=0", "limit=-1", f"limit={10**30}", "limit=abc", "limit=", "limit=1.5", "limit=%D9%A1", "limit=%00",
    "limit=1&limit=2", "cursor=", "cursor=%00", "cursor=%FF", "cursor=%E2%82%AC", f"cursor={'A' * 5000}",
    "cursor=a&cursor=b", "cursor=IjEi", "nonsense=1", "%00=1", "limit[]=1",
    "caller=x", "devices=x", "marketplace=x",
)  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
async def test_a_wrong_query_is_named(stranger: Stranger, path: str) -> None:
    for query in WRONG_QUERIES:
        found = problem(await stranger.http.get(f"{path}?{query}"))
        assert found["field"] is not None, query
        assert found["detail"].startswith(found["field"]), query


async def test_clients_of_other_vendors_may_add_to_the_query(stranger: Stranger) -> None:
    assert (await stranger.http.get("/v1/models?api-version=2024-10-21")).status_code == 200


IDS = (
    "%00",
    "a%00b",
    "a%2Fb",
    "%FF",
    "x" * 3000,
    "%2e%2e",
    "..%2f..",
    "%E2%82%AC",
    "a%0d%0ab",
    "%",
    "%zz",
    "-1",
)


async def test_no_id_in_a_path_breaks_anything(stranger: Stranger) -> None:
    prefixes = {path.partition(NOBODY)[0] for _, path in stranger.operations if NOBODY in path}
    for prefix in sorted(prefixes | {"/v1/models/"}):
        for text in IDS:
            answer = await stranger.http.get(prefix + text)
            assert answer.status_code in (404, 405), (prefix, text, answer.text)
            problem(answer, answer.status_code)


async def test_what_a_handler_is_given_inside_is_no_parameter(stranger: Stranger) -> None:
    path = "/api/v1/devices/stranger-device"
    for name in ("caller", "devices"):
        assert problem(await stranger.http.delete(f"{path}?{name}=x"))["field"] == name
    assert (await stranger.http.get(path)).status_code == httpx.codes.OK


async def test_unknown_methods_and_paths(stranger: Stranger) -> None:
    for path in {path for _, path in stranger.operations}:
        for method in ("TRACE", "PATCH", "FOO"):
            answer = await stranger.http.request(method, path)
            assert problem(answer, 405)["code"] == "method_not_allowed"
            assert {"GET", "POST", "PUT", "DELETE"} & set(answer.headers["allow"].split(", "))
    for path in ("/", "/nope", "/v1", "/v1/nope", "/api/v1", "/api/v1/nope", "/docs/nope"):
        for method in ("GET", "POST", "OPTIONS", "FOO"):
            assert problem(await stranger.http.request(method, path), 404)["code"] == "not_found"


async def test_a_request_that_ends_in_its_middle_is_no_error_of_ours(stranger: Stranger) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stranger.house.port)
    writer.write(b"POST /api/v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader
    assert (await stranger.http.get("/health/live")).status_code == 200
    assert "unexpected" not in stranger.house.log()


async def test_every_answer_says_how_to_treat_it(stranger: Stranger) -> None:
    for path in ("/api/v1/users/me", "/v1/models", "/nope", "/health/live", "/metrics"):
        answer = await stranger.http.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_label_is_not_a_strangers_to_choose(stranger: Stranger) -> None:
    await stranger.http.request("ZZTOP", "/health/live")
    await stranger.http.get("/zztop")
    metrics = (await stranger.http.get("/metrics")).text
    assert "zztop" not in metrics.lower()
    assert 'method="other",route="unmatched"' in metrics or 'method="other"' in metrics
