"""Requests that make sense, and some that do not: a way for every route of the app and every socket message.

The routes and the names of what they take come from the app itself. A route with a body needs a builder here,
a path or query parameter a source of values: `unknown()` lists what has none, and a test fails on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from litestar import Litestar
from litestar.routes import HTTPRoute

from tests.isolation.worlds.house import Ask
from tests.isolation.worlds.parts import Parts
from yggdrasil.edge import query_names

Build = Callable[["Maker"], dict[str, Any]]
DEALS = frozenset({"audience", "scope", "yggdrasil"})
"""Where a body says with whom its sender deals."""
CODES = ("conflict", "not_found", "limit_reached", "nonsense")


@dataclass(frozen=True)
class Way:
    """One route as the app has it."""

    method: str
    path: str
    parameters: tuple[str, ...]
    query: tuple[str, ...]
    has_body: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def ways_of(app: Litestar) -> list[Way]:
    """Every route, in a stable order."""
    found = []
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        for handler in route.route_handlers:
            names = tuple(sorted(query_names(handler)))
            taken = tuple(re.findall(r"\{(\w+)\}", path))
            has_body = handler.parsed_data_field is not None
            methods = handler.http_methods - {"OPTIONS", "HEAD"}
            found += [Way(str(method), path, taken, names, has_body) for method in methods]
    return sorted(found, key=lambda way: way.name)


class Maker(Parts):
    """Makes whole requests of one person, of a way."""

    def ask(self, way: Way) -> Ask:
        path = re.sub(r"\{(\w+)\}", lambda name: quote(str(PARAMETERS[name[1]](self)), safe=""), way.path)
        query = {name: QUERIES[name](self) for name in way.query if self.chance(30)}
        body = b""
        if way.has_body:
            built = BODIES[way.name](self)
            if self.chance(4):
                built = self._distorted(built)
            body = json.dumps(built).encode()
            if self.chance(1):
                body = body[:-1]
        return self.request(way.method, path, urlencode(query), body)

    def request(self, method: str, path: str, query: str = "", body: bytes = b"") -> Ask:
        headers = []
        credential = self.credential()
        if credential is not None:
            headers.append(("authorization", f"Bearer {credential}"))
        if body:
            headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
        return Ask(method, path, query, tuple(headers), body)

    def credential(self) -> str | None:
        choice = self.rng.randrange(100)
        if choice >= 97:
            return None
        if choice >= 95:
            return self.one("nonsense", "ygg_" + "A" * 86, self.id("network_id"))
        if choice >= 82 and self.me.api_keys:
            return self.one(*self.me.api_keys)
        return self.me.access

    def _distorted(self, body: dict[str, Any]) -> dict[str, Any]:
        # With whom one deals is everybody, where it is left out or empty.
        names = sorted(set(body) - (set() if self.trades else DEALS))
        if not names or self.chance(30):
            return {**body, "surplus": 1}
        name = self.one(*names)
        if self.chance(50):
            return {key: value for key, value in body.items() if key != name}
        return {**body, name: self.one(None, -1, [], {}, "x" * 600)}


Make = Callable[[Maker], Any]

PARAMETERS: dict[str, Make] = {
    "key_id": lambda m: m.id("key_id"),
    "device_id": lambda m: m.device_id(),
    "method_id": lambda m: m.id("method_id"),
    "provider_id": lambda m: m.id(m.one("provider_id", "offer")),
    "registration_id": lambda m: m.id("registration_id"),
    "transaction_id": lambda m: m.id("transaction_id"),
    "request_id": lambda m: m.id("transaction_id"),
    "network_id": lambda m: m.id("network_id"),
    "model": lambda m: m.model(),
    "flow": lambda m: m.id("flow"),
    "hand_over_id": lambda m: m.id("hand_over_id"),
    "user_id": lambda m: m.id("user_id"),
    "invitation_id": lambda m: m.id("invitation_id"),
    "code": lambda m: m.one(*CODES),
    "path": lambda m: m.one("openapi.json", "nope"),
}
QUERIES: dict[str, Make] = {
    "limit": lambda m: m.one(1, 1, 1, 2, 3, 20, 100, 0),
    "cursor": lambda m: m.id("cursor"),
    "owner": lambda m: m.one("me", "network", "network", "all"),
    "model": lambda m: m.model(),
    "within": lambda m: m.one("own", "network", "market"),
    "side": lambda m: m.one("requester", "provider"),
    "kind": lambda m: m.one("key.made", "session.opened", "id.unknown", "nonsense"),
    "hours": lambda m: m.one(1, 24, 168, 0),
    "bucket": lambda m: m.one("hour", "day", "all"),
    "group_by": lambda m: m.one("model", "kind,scope", "device", "weekday,hour", "nonsense"),
    "format": lambda m: m.one("json", "csv"),
    "from": lambda m: m.one("2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", "x"),
    "to": lambda m: m.one("2026-01-02T00:00:00Z", "x"),
    "timezone": lambda m: m.one("UTC", "Europe/Berlin", "Nowhere"),
}
BODIES: dict[str, Build] = {
    "POST /api/v1/users/register": lambda m: {
        **m.start(),
        **({"display_name": "Sam"} if m.chance(50) else {}),
    },
    "POST /api/v1/users/login": lambda m: m.start(),
    "POST /api/v1/users/verify": lambda m: m.verify(),
    "POST /api/v1/users/refresh": lambda m: m.refresh(),
    "POST /api/v1/users/switch": lambda m: m.switch(),
    "POST /api/v1/users/me/networks": lambda m: m.acceptance(),
    "POST /api/v1/members/invitations": lambda m: {
        "email": m.address(),
        "name": m.one("Home", "<b>"),
        "role": m.one("guest", "member", "admin", "owner"),
    },
    "PUT /api/v1/members/{user_id}": lambda m: {"role": m.one("guest", "member", "admin", "owner")},
    "POST /api/v1/users/hand-overs/ask": lambda m: m.hand_over_ask(),
    "POST /api/v1/users/hand-overs/take": lambda m: m.hand_over_take(),
    "POST /api/v1/users/me/hand-over-asks/{flow}/approve": lambda m: m.hand_over_approval(),
    "PUT /api/v1/admin/networks/{network_id}/tier": lambda m: {
        "tier": m.one("free", "nonsense"),
        "reason": "the network asked for it",
    },
    "PUT /api/v1/users/me": lambda m: {"display_name": m.one("Sam", "Alex", "")},
    "POST /api/v1/keys": lambda m: m.new_key(),
    "POST /api/v1/keys/{key_id}/rotate": lambda m: {"overlap_seconds": m.one(0, 60)},
    "POST /api/v1/devices": lambda m: m.device(),
    "PUT /api/v1/devices/{device_id}": lambda m: {"name": m.one("Desk", "Attic")},
    "POST /api/v1/payments/methods": lambda m: m.method(),
    "POST /api/v1/payments/methods/{method_id}/verify": lambda m: m.one(
        {}, {}, {"proof": "32"}, {"proof": "1"}
    ),
    "POST /api/v1/payments/process": lambda m: m.top_up(),
    "POST /api/v1/marketplace/providers/register": lambda m: m.provider(),
    "PUT /api/v1/marketplace/providers/{provider_id}": lambda m: m.changed_provider(),
    "POST /api/v1/marketplace/requests": lambda m: m.compute(),
    "POST /api/v1/marketplace/requests/{transaction_id}/feedback": lambda m: {"score": m.one(0, 0.5, 1)},
    "POST /v1/chat/completions": lambda m: m.sent_chat(),
    "POST /v1/responses": lambda m: {"model": m.model(), "input": "hello", "yggdrasil": m.wishes()},
    "POST /v1/embeddings": lambda m: {"model": "embedder", "input": "hello", "yggdrasil": m.wishes()},
    "POST /api/v1/admin/networks/{network_id}/open": lambda m: {"reason": "the network asked for help"},
    "POST /api/v1/admin/requests/{request_id}/open": lambda m: {"reason": "the network asked for help"},
}
OFTEN = {
    "POST /api/v1/devices": 3,
    "POST /api/v1/keys": 2,
    "POST /api/v1/payments/methods": 2,
    "POST /api/v1/payments/methods/{method_id}/verify": 2,
    "POST /api/v1/payments/process": 2,
    "POST /api/v1/marketplace/providers/register": 4,
    "POST /api/v1/marketplace/requests": 4,
    "POST /v1/chat/completions": 3,
    "POST /api/v1/users/register": 2,
    "POST /api/v1/users/login": 2,
    "POST /api/v1/users/verify": 3,
}
"""How many times as often as others, so that there is something to see."""
SELDOM = {
    "DELETE /api/v1/users/me": 30,
    "POST /api/v1/users/logout": 30,
    "GET /docs": 40,
    "GET /docs/errors": 40,
    "GET /docs/errors/{code}": 40,
    "GET /schema": 40,
    "GET /schema/openapi.json": 40,
    "GET /schema/{path}": 40,
    "GET /health/live": 40,
}
"""Taken in so many percent of the cases in which they are drawn."""


def unknown(ways: list[Way]) -> Iterator[str]:
    """What of these routes nobody can make a request for."""
    for way in ways:
        yield from (
            f"{way.name}: no values for {{{name}}}" for name in way.parameters if name not in PARAMETERS
        )
        yield from (f"{way.name}: no values for ?{name}" for name in way.query if name not in QUERIES)
        if way.has_body and way.name not in BODIES:
            yield f"{way.name}: no builder of its body"
    for name in sorted({*BODIES, *OFTEN, *SELDOM} - {way.name for way in ways}):
        yield f"{name}: there is no such route"
