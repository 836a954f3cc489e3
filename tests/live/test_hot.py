"""The short way before the router against the router: the same answers, whatever is asked."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, cast

import httpx
import pytest

from tests.live.house import House, Script, fund, person, selling
from yggdrasil import hot as hot_way
from yggdrasil.errors import Unauthenticated
from yggdrasil.hot import CHAT, DEVICE, DEVICES, Hot

MODEL = "hot"
JSON = "application/json"
LONG_JSON = "application/json; charset=utf-8"
"""Means the same, and only the router reads it."""

_OWN = {"date", "x-request-id", "x-yggdrasil-transaction", "content-length"}
_VARYING = re.compile(r'"(id|transaction_id|created)":("[^"]*"|\d+)')


def told(response: httpx.Response) -> tuple[int, dict[str, str], str]:
    """An answer without what is of this request alone."""
    headers = {name: value for name, value in response.headers.items() if name not in _OWN}
    assert int(response.headers["content-length"]) == len(response.content)
    assert "x-request-id" in response.headers
    return response.status_code, headers, _VARYING.sub("", response.text)


async def test_devices_are_answered_alike(house: House) -> None:
    account, other = await person(house, "hot-owner"), await person(house, "hot-other")
    async with account, other, httpx.AsyncClient(base_url=house.url) as http:
        good = {"authorization": f"Bearer {await account.token()}"}
        foreign = {"authorization": f"Bearer {await other.token()}"}
        asked = [
            "",
            "?limit=1",
            "?limit=0",
            "?limit=101",
            "?limit=1&cursor=bm90",
            "?cursor=WyJhIl0",
            "?limit=",
        ]
        asked += ["?limit=1&limit=2", "?owner=network", "?nothing=1", "?cursor=", "?&limit=1"]
        for query in asked:
            for headers in (good, foreign, {}, {"authorization": "Bearer nonsense"}):
                short = await http.get(f"{DEVICES}{query}", headers=headers)
                assert told(short) == told(await http.get(f"{DEVICES}/{query}", headers=headers)), query
        for name in ("hot-owner-device", "absent", "a" * 64, "a" * 65, "%20", "%00", ".", "a%2Fb", "x?y=1"):
            for headers in (good, foreign, {}):
                path, _, query = name.partition("?")
                short = await http.get(f"{DEVICES}/{path}?{query}", headers=headers)
                assert told(short) == told(await http.get(f"{DEVICES}/{path}/?{query}", headers=headers)), (
                    name
                )
        # Measures know a route by the router's own name for it, whichever way was taken.
        metrics = (await http.get("/metrics")).text
        measured = set(
            re.findall(r'http_requests_total\{method="GET",route="(/api/v1/devices[^"]*)"', metrics)
        )
        assert measured == {DEVICES, DEVICE}
        assert (await http.get(f"{DEVICES}/hot-owner-device", headers=good)).status_code == 200
        assert (await http.get(f"{DEVICES}/hot-owner-device", headers=foreign)).status_code == 404


BODIES: list[Any] = [
    {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]},
    {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    {"model": "nobody has it", "messages": [{"role": "user", "content": "Hi"}]},
    {"model": MODEL, "messages": []},
    {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "unknown": 1},
    {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream_options": {}},
    {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "yggdrasil": {"max_cost_cents": 0}},
    {"model": MODEL, "messages": [{"role": "user", "content": "\0"}]},
    {"model": MODEL},
    [],
    "{",
    "",
    "\udcff",
]


async def test_chats_are_answered_alike(house: House) -> None:
    seller, buyer = await person(house, "hot-seller"), await person(house, "hot-buyer")
    async with seller, buyer, httpx.AsyncClient(base_url=house.url, timeout=30) as http:
        await fund(seller)
        await fund(buyer, 500)
        key = (await buyer.create_key("hot"))["key"]
        async with selling(seller, model=MODEL, script=Script()):
            for given in BODIES:
                body = (given if isinstance(given, str) else json.dumps(given)).encode(
                    errors="surrogateescape"
                )
                for authorization in (f"Bearer {key}", "Bearer nonsense", None):
                    headers = {} if authorization is None else {"authorization": authorization}
                    answers = [
                        told(await http.post(CHAT, content=body, headers={**headers, "content-type": kind}))
                        for kind in (JSON, LONG_JSON)
                    ]
                    assert answers[0] == answers[1], body
            headers = {"authorization": f"Bearer {key}", "content-type": JSON}
            whole = await http.post(CHAT, content=json.dumps(BODIES[0]), headers=headers)
            assert whole.status_code == 200
            assert "x-yggdrasil-cost-microcents" in whole.headers
            stream = await http.post(CHAT, content=json.dumps({**BODIES[0], "stream": True}), headers=headers)
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.text.rstrip().endswith("data: [DONE]")
            wish = {**headers, "x-yggdrasil-max-cost-cents": "nonsense"}
            assert (await http.post(CHAT, content=json.dumps(BODIES[0]), headers=wish)).status_code == 400
    books = await house.audit()
    assert books["sum_microcents"] == books["clearing_microcents"] == books["open_holds"] == 0


PLAIN = json.dumps(BODIES[0]).encode()


async def nobody(_scope: Any) -> Any:
    raise Unauthenticated


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "short"),
    [
        ("GET", DEVICES, b"", [], b"", True),
        ("GET", DEVICES, b"limit=20&cursor=abc", [], b"", True),
        ("GET", DEVICES, b"owner=network", [], b"", False),
        ("GET", DEVICES + "/pc", b"", [], b"", True),
        ("GET", DEVICES + "/pc/x", b"", [], b"", False),
        ("DELETE", DEVICES + "/pc", b"", [], b"", False),
        ("POST", CHAT, b"", [(b"content-type", b"application/json")], PLAIN, True),
        ("POST", CHAT, b"", [(b"content-type", b"application/json")], b'{"model":"m"', False),
        ("POST", CHAT, b"", [(b"content-type", LONG_JSON.encode())], PLAIN, False),
    ],
)
async def test_only_the_plain_form_goes_the_short_way(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes, short: bool
) -> None:
    sent: list[Any] = []
    seen: list[bytes] = []

    async def router(_scope: Any, receive: Any, _send: Any) -> None:
        seen.append((await receive())["body"])

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": method, "path": path, "query_string": query}
    scope["headers"] = [*headers, (b"content-length", str(len(body)).encode())]
    scope |= {"scheme": "http", "server": ("127.0.0.1", 1), "root_path": ""}
    hot = Hot(cast(Any, router), caller=nobody, devices=cast(Any, None), marketplace=cast(Any, None))
    await hot(scope, receive, send)
    if short:
        assert sent[0]["status"] == 401
        assert scope["path_template"] in (DEVICES, DEVICE, CHAT)
        assert not seen
    else:
        assert seen == [body]
        assert not sent


async def test_half_a_body_does_not_keep_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_way, "BODY_SECONDS_MAX", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "scheme": "http"}
    scope |= {"server": ("127.0.0.1", 1), "root_path": ""}
    scope["headers"] = [(b"content-type", b"application/json"), (b"content-length", b"10")]
    nothing = cast(Any, None)
    await Hot(nothing, caller=nobody, devices=nothing, marketplace=nothing)(scope, receive, send)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["error"]["param"] == "body"
