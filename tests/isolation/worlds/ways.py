"""Requests that make sense, and some that do not: a way for every route of the app and every socket message.

The routes and the names of what they take come from the app itself. A route with a body needs a
builder here, a
path or query parameter a source of values: `unknown()` lists what has none, and a test fails on it.
"""

from __future__ import annotations

import json
import random
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from litestar import Litestar
from litestar.routes import HTTPRoute

from tests.isolation.worlds.house import Ask
from tests.isolation.worlds.people import DEVICE_IDS, MODELS, Person
from yggdrasil.edge import _query_names
from yggdrasil.users.codes import refresh_message, start_message, switch_message
from yggdrasil.users.invitations import accept_message
from yggdrasil.wire import hand_over
from yggdrasil.wire.proof import encode_bytes

Build = Callable[["Maker"], dict[str, Any]]
MALFORMED = ("", "x", "..", "%00", "0" * 32, "ü", "a" * 300, "offer_" + "0" * 31)
NEVER = ("7e57ed00-0000-4000-8000-000000000000", "offer_" + "7e" * 16, "never-there")
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
            names = tuple(sorted(_query_names(handler) - set(handler.resolve_dependencies())))
            taken = tuple(re.findall(r"\{(\w+)\}", path))
            has_body = handler.parsed_data_field is not None
            methods = handler.http_methods - {"OPTIONS", "HEAD"}
            found += [Way(str(method), path, taken, names, has_body) for method in methods]
    return sorted(found, key=lambda way: way.name)


class Maker:
    """Makes requests of one person. `others`: whose ids are guessed. `trades`: whether it may deal with other
    networks."""

    def __init__(
        self, me: Person, others: list[Person], rng: random.Random, *, trades: bool, now: int
    ) -> None:
        self.me, self.others, self.rng, self.trades, self.now = me, others, rng, trades, now

    def one(self, *values: Any) -> Any:
        return values[self.rng.randrange(len(values))]

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def id(self, kind: str) -> str:
        """Mostly of this kind: one's own, another's, one that never was, a malformed one."""
        choice = self.rng.randrange(100)
        if choice < 50 and (mine := self.me.known.get(kind)):
            return self.one(*mine)
        if choice < 90:
            theirs = [value for other in self.others for value in other.known.get(kind, ())]
            if not theirs or choice >= 87:
                theirs = [v for other in self.others for kept in other.known.values() for v in kept]
            if theirs:
                return self.one(*theirs)
        if choice < 96:
            return self.one(*NEVER)
        return self.one(*MALFORMED)

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
        if not body or self.chance(30):
            return {**body, "surplus": 1}
        name = self.one(*sorted(body))
        if self.chance(50):
            return {key: value for key, value in body.items() if key != name}
        return {**body, name: self.one(None, -1, [], {}, "x" * 600)}

    # ---- parts -------------------------------------------------------------------------------------------

    def key_number(self) -> int:
        return self.one(0, 0, 1, 2)

    def device_id(self) -> str:
        return self.one(*DEVICE_IDS) if self.chance(80) else self.id("device_id")

    def address(self) -> str:
        """One's own, or another's: the codes go there, not to the asker."""
        if self.chance(50) or not self.others:
            return self.one(*self.me.addresses)
        return self.one(*self.one(*self.others).addresses)

    def start(self) -> dict[str, Any]:
        number, address = self.key_number(), self.address()
        self.me.asked = number, address
        body: dict[str, Any] = {"email": address, "device_key": self.me.public(number)}
        if self.chance(50):
            key = self.me.own_keys[number]
            signed = key.sign(start_message(key.public_key().public_bytes_raw(), self.now, address))
            body |= {"at_seconds": self.now, "proof": encode_bytes(signed)}
        return body

    def flow_and_code(self) -> tuple[str, int, str]:
        """(flow, number of the key, code): one's own that fit, or a guess."""
        flow = self.me.ready_flow()
        if flow is not None and self.chance(60):
            return flow, self.me.flows[flow][0], self.me.codes.pop(flow)
        return self.id("flow"), self.key_number(), str(self.one("00000000", "12345678"))

    def verify(self) -> dict[str, Any]:
        flow, number, code = self.flow_and_code()
        try:
            proof = self.me.verify_proof(number, flow, code)
        except ValueError:
            proof = "A" * 86
        return {"flow": flow, "code": code, "device_key": self.me.public(number), "proof": proof}

    def refresh(self) -> dict[str, Any]:
        token = self.me.refresh or "ygr_" + "A" * 91
        number = 0 if self.chance(95) else 1
        proof = encode_bytes(self.me.own_keys[number].sign(refresh_message(token, self.now)))
        return {"refresh_token": token, "at_seconds": self.now, "proof": proof}

    def switch(self) -> dict[str, Any]:
        token, network = self.me.refresh or "ygr_" + "A" * 91, self.id("network_id")
        try:
            message = switch_message(token, UUID(network), self.now)
        except ValueError:
            message = b"no network"
        proof = encode_bytes(self.me.own_keys[0].sign(message))
        return {"refresh_token": token, "network_id": network, "at_seconds": self.now, "proof": proof}

    def acceptance(self) -> dict[str, Any]:
        text = "ygi_" + self.one("A", "B") * 86
        proof = encode_bytes(self.me.own_keys[0].sign(accept_message(text, self.now)))
        return {"invitation": text, "at_seconds": self.now, "proof": proof}

    def hand_over_ask(self) -> dict[str, Any]:
        number, address = self.key_number(), self.address()
        self.me.asked = number, address
        key, sealing_key = self.me.own_keys[number], self.me.sealing_key
        public = key.public_key().public_bytes_raw()
        signed = key.sign(hand_over.ask_message(public, sealing_key, self.now, address, "Desk"))
        return {
            "email": address,
            "device_key": encode_bytes(public),
            "sealing_key": encode_bytes(sealing_key),
            "device_name": "Desk",
            "at_seconds": self.now,
            "proof": encode_bytes(signed),
        }

    def hand_over_take(self) -> dict[str, Any]:
        flow, number, code = self.flow_and_code()
        body = {"flow": flow, "device_key": self.me.public(number)}
        if self.chance(70):
            body["code"] = code
        try:
            message = hand_over.take_message(UUID(flow), body.get("code"))
        except ValueError:
            return {**body, "proof": "A" * 86}
        return {**body, "proof": encode_bytes(self.me.own_keys[number].sign(message))}

    def hand_over_approval(self) -> dict[str, Any]:
        return {"check": self.one("000000", "123456"), "at_seconds": self.now, "proof": "A" * 86}

    def device(self) -> dict[str, Any]:
        number = self.rng.randrange(len(DEVICE_IDS))
        device_id = DEVICE_IDS[number] if self.chance(85) else self.id("device_id")
        return {
            "device_id": device_id,
            "name": self.one("Desk", "Pocket"),
            "world": self.one("Alfheim", "Midgard", "Asgard"),
            "device_key": self.me.device_key(number),
            "proof": self.me.registration_proof(number, device_id),
            "hardware": {"memory_gib": self.one(8, 32, 128)},
        }

    def audience(self) -> str:
        return self.one("own", "network", "market", "market") if self.trades else self.one("own", "network")

    def scope(self) -> str:
        return self.one("own", "network", "market", "market") if self.trades else self.one("own", "network")

    def terms(self) -> list[dict[str, Any]]:
        names = self.rng.sample(MODELS, self.one(1, 1, 2))
        return [
            {
                "model": name,
                "kind": "embeddings" if name == "embedder" else "chat",
                "price_cents": self.one(0, 1, 3, 7),
                "rounding": self.one("per_request", "per_statement"),
            }
            for name in names
        ]

    def provider(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id(),
            "models": self.terms(),
            "audience": self.audience(),
            "capacity_jobs": self.one(1, 2, 8),
        }

    def changed_provider(self) -> dict[str, Any]:
        choices: list[dict[str, Any]] = [
            {"status": self.one("active", "paused", "draining")},
            {"capacity_jobs": self.one(1, 4)},
            {"audience": self.audience()},
            {"models": self.terms()},
            {"hours": [{"days": ["mon", "thu"], "from": "00:00", "to": "12:00"}], "zone": "Europe/Berlin"},
        ]
        return typing.cast("dict[str, Any]", self.one(*choices))

    def wishes(self) -> dict[str, Any]:
        made: dict[str, Any] = {"scope": self.scope()}
        if self.chance(25):
            made[self.one("only", "order", "ignore")] = [self.id("offer")]
        if self.chance(10):
            made |= self.one(
                {"sort": "price"},
                {"min_quality": "fair"},
                {"max_cost": 1},
                {"queue_seconds": 0},
                {"allow_fallbacks": False},
            )
        return made

    def chat(self) -> dict[str, Any]:
        body = {"model": self.model(), "messages": [{"role": "user", "content": self.one("hello", "why?")}]}
        return {**body, "max_tokens": self.one(16, 100)} if self.chance(50) else body

    def model(self) -> str:
        return self.one(*MODELS, "auto") if self.chance(92) else self.one("never", self.id("offer"))

    def sent_chat(self) -> dict[str, Any]:
        body = {**self.chat(), "yggdrasil": self.wishes()}
        if self.chance(20):
            body["stream"] = True
        if self.chance(15):
            body["yggdrasil"]["idempotency_key"] = self.one("k1", "k2", "first")
        return body

    def compute(self) -> dict[str, Any]:
        if self.chance(25):
            inner: dict[str, Any] = {"model": "embedder", "input": "hello"}
            body = {"kind": "embeddings", "request": inner, **self.wishes()}
        else:
            body = {"kind": "chat", "request": self.chat(), **self.wishes()}
        if self.chance(40):
            body["idempotency_key"] = self.one("k1", "k2", "first")
        return body

    def new_key(self) -> dict[str, Any]:
        body: dict[str, Any] = {"name": self.one("ci", "laptop")}
        if self.chance(30):
            body |= {"spend_limit_microcents": self.one(0, 5_000_000), "models": [self.one(*MODELS)]}
        return body

    def method(self) -> dict[str, Any]:
        token = self.one(
            "sandbox_ok",
            "sandbox_ok",
            "sandbox_transfer",
            "sandbox_declined",
            "sandbox_late",
            "sandbox_pending",
        )
        return {
            "kind": "sandbox",
            "purpose": self.one("spend", "payout", "both", "both"),
            "gateway_token": token,
            "label": self.one("", "card"),
            "is_default": self.chance(30),
        }

    def top_up(self) -> dict[str, Any]:
        return {
            "method_id": self.id("method_id"),
            "amount_cents": self.one(50, 100, 1000, 10),
            "idempotency_key": self.one("k1", "k2", "first"),
        }


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
