"""The door by source address: who is counted, under what, and that nobody can go round it or close it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from litestar.routes import HTTPRoute

from tests.support import ManualClock
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.kernel import SystemIds
from yggdrasil.quotas.door import ASKS_FOR_CODE, CODES_PART, SIGN_IN, SourceDoor
from yggdrasil.services import Services
from yggdrasil.wire.limits import CloseCode
from yggdrasil.wire.messages import Error, decode_to_device

MOST = 20
LOGIN = "/api/v1/users/login"
REFRESH = "/api/v1/users/refresh"


class Parts(SimpleNamespace):
    """A server without any of its parts: the requests of these tests reach none."""

    def __getattr__(self, _: str) -> None:
        return None


def server(**settings: Any) -> Any:
    clock = ManualClock()
    given = Settings(sign_ins_per_address_per_minute=MOST, **settings)
    parts = Parts(mailer=DevMailer(clock, development=True), ids=SystemIds(), clock=clock, settings=given)
    app = create_app(cast(Services, parts))
    app.state.clock = clock
    return app


async def post(
    app: Any, path: str, times: int, *, peer: str = "203.0.113.5", headers: dict[str, str] | None = None
) -> list[int]:
    """The statuses of so many requests; 400 is a body that says nothing: it came through the door."""
    transport = httpx.ASGITransport(app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        return [(await http.post(path, json={}, headers=headers)).status_code for _ in range(times)]


async def test_one_address_is_refused_and_another_does_not_feel_it() -> None:
    app = server()
    assert await post(app, REFRESH, MOST + 2) == [400] * MOST + [429] * 2
    assert await post(app, REFRESH, 1, peer="203.0.113.6") == [400]
    # Of IPv6 a whole /64 is one.
    assert await post(app, REFRESH, MOST, peer="2001:db8::1") == [400] * MOST
    assert await post(app, REFRESH, 1, peer="2001:db8::ffff:1") == [429]
    assert await post(app, REFRESH, 1, peer="2001:db8:0:1::1") == [400]
    app.state.clock.advance(60 / MOST)
    assert await post(app, REFRESH, 2) == [400, 429]


@pytest.mark.parametrize(
    "path", [LOGIN, LOGIN + "/", "/" + LOGIN, LOGIN.replace("/users", "//users"), LOGIN + "//", LOGIN + "?a"]
)
async def test_no_other_spelling_of_the_path_goes_round_it(path: str) -> None:
    app = server()
    await post(app, REFRESH, MOST)
    transport = httpx.ASGITransport(app, client=("203.0.113.5", 4711))
    async with httpx.AsyncClient(transport=transport) as http:
        answer = await http.post(f"http://x{path}", json={})
    # Refused, or not what signs in at all.
    assert answer.status_code in (429, 404)


def test_what_needs_no_credential_and_does_more_than_show_a_page_is_counted() -> None:
    """A route that signs in and is not at the door fails here."""
    open_posts = set()
    for route in server().routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                asked = handler.parsed_fn_signature.parameters
                if "POST" in handler.http_methods and not {"caller", "operator"} & set(asked):
                    open_posts.add(route.path)
    assert open_posts == SIGN_IN
    assert ASKS_FOR_CODE < SIGN_IN


async def test_an_address_has_only_a_part_of_the_codes_that_a_node_mails() -> None:
    app = server()
    assert await post(app, LOGIN, 4) == [400] * (MOST // CODES_PART) + [429] * 2
    # Whoever has a code may prove it.
    assert await post(app, "/api/v1/users/verify", 1) == [400]
    assert await post(app, LOGIN, 1, peer="203.0.113.6") == [400]


async def test_where_everybody_would_be_one_source_nobody_is_counted() -> None:
    assert await post(server(behind_proxy=True), REFRESH, 3 * MOST) == [400] * 3 * MOST
    for peer in ("127.0.0.1", "::1"):
        assert await post(server(), REFRESH, 3 * MOST, peer=peer) == [400] * 3 * MOST


async def test_behind_a_proxy_that_was_named_each_client_is_counted() -> None:
    app = server(behind_proxy=True, trusted_proxies="203.0.113.5")
    for client in ("198.51.100.1", "198.51.100.2"):
        said = {"x-forwarded-for": f"6.6.6.6, {client}", "forwarded": "for=7.7.7.7"}
        assert await post(app, REFRESH, MOST + 1, headers=said) == [400] * MOST + [429]
    # A new word of the client's own every time moves nothing.
    for number in range(5):
        said = {"x-forwarded-for": f"7.7.7.{number}, 198.51.100.1", "forwarded": f"for=7.7.7.{number}"}
        assert await post(app, REFRESH, 1, headers=said) == [429]
    # Who comes past the proxy is himself, whatever he says.
    said = {"x-forwarded-for": "198.51.100.3"}
    assert await post(app, REFRESH, MOST + 1, peer="203.0.113.9", headers=said) == [400] * MOST + [429]
    assert await post(app, REFRESH, 1, headers=said) == [400]


async def test_the_refusal_is_the_same_for_known_and_unknown_addresses() -> None:
    app = server()
    await post(app, REFRESH, MOST)
    transport = httpx.ASGITransport(app, client=("203.0.113.5", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answers = [await http.post(LOGIN, json={"email": email}) for email in ("a@b.c", "known@example.org")]
    assert answers[0].content == answers[1].content
    told = answers[0].json()
    assert (told["code"], told["limit"], told["used"]) == ("limit_reached", MOST, MOST)
    assert int(answers[0].headers["retry-after"]) == told["retry_after_seconds"] == 3


async def test_a_socket_too_many_is_told_why_and_to_dial_again() -> None:
    reached = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    door = SourceDoor(cast(Any, behind), ManualClock(), per_minute=1, trusted=())
    for _ in range(2):
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: Any, sent: list[dict[str, Any]] = sent) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/bifrost",
            "headers": [],
            "client": ("203.0.113.5", 1),
            "subprotocols": ["bifrost.v1"],
        }
        await door(cast(Any, scope), cast(Any, receive), cast(Any, send))
    assert reached == ["/bifrost"]
    assert [message["type"].removeprefix("websocket.") for message in sent] == ["accept", "send", "close"]
    told = decode_to_device(sent[1]["text"])
    assert isinstance(told, Error)
    assert (told.code, told.retry_after_ms) == ("limit_reached", 60_000)
    assert "address" in told.message
    assert "network" not in json.dumps(sent[1])
    assert sent[2]["code"] == CloseCode.FULL
