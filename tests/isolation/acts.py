"""Probes that do something: B uses an id of A as one of its own, and it goes as with one nobody ever had."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.isolation import forms
from tests.isolation.engine import Difference, Engine
from tests.isolation.raw import Seen
from tests.isolation.rows import changed
from yggdrasil.devices.model import registration_message
from yggdrasil.users.tokens import REFRESH_PREFIX
from yggdrasil.wire.proof import encode_bytes

_MADE: Final = (
    (re.compile(rb"ygg_[A-Za-z0-9_-]{86}"), b"<key>"),
    (re.compile(forms.UUID_TEXT.pattern.encode()), b"<uuid>"),
    (re.compile(rb"chatcmpl-[A-Za-z0-9_-]+"), b"<completion>"),
    (re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), b"<time>"),
    (re.compile(rb'"created":\d+'), b'"created":0'),
    (re.compile(rb'"[a-z_]*_(ms|seconds)":[0-9.]+'), b'"time":0'),
    (re.compile(rb'"device_key":"[A-Za-z0-9_-]{43}"'), b'"device_key":0'),
    # Each sale moves the standing of who sold; the market shows it to whoever buys.
    (re.compile(rb'"decision_card":\{.*?\},"error_code"'), b'"error_code"'),
)
"""What is new in each answer."""
_PER_ANSWER: Final = frozenset({b"content-length", b"x-yggdrasil-transaction"})

Answers = list[Seen]
Act = Callable[[Engine, str], Awaitable[Answers]]


async def _call(engine: Engine, method: str, path: str, body: Any = None, **headers: str) -> Seen:
    given = {"authorization": f"Bearer {await engine.stand.two.b.token()}", **headers}
    sent = None if body is None else json.dumps(body).encode()
    return await engine.wire.ask(method, path, given.items(), sent)


async def register_device(engine: Engine, device_id: str) -> Answers:
    """With a proof that holds, so that nothing but the id itself could stand against it."""
    session = await engine.stand.two.b.session()
    key = Ed25519PrivateKey.generate()
    body = {
        "device_id": device_id,
        "name": "x",
        "world": "Alfheim",
        "device_key": encode_bytes(key.public_key().public_bytes_raw()),
        "proof": encode_bytes(key.sign(registration_message(session.network_id, device_id))),
    }
    made = await _call(engine, "POST", "/api/v1/devices", body)
    assert made.status == 201, made
    path = f"/api/v1/devices/{device_id}"
    return [made, await _call(engine, "GET", path), await _call(engine, "DELETE", path)]


async def top_up(engine: Engine, key: str) -> Answers:
    """Under an idempotency key that somebody else has used."""
    body = {"method_id": engine.stand.method_b, "amount_cents": 100, "idempotency_key": key}
    first = await _call(engine, "POST", "/api/v1/payments/process", body)
    assert first.status == 200, first
    return [first]


async def buy(engine: Engine, key: str) -> Answers:
    """Of C, under an idempotency key that A has used for buying of C."""
    request = {"model": "other-model", "messages": [{"role": "user", "content": "hello"}]}
    body = {"kind": "chat", "request": request, "idempotency_key": key}
    made = await _call(engine, "POST", "/api/v1/marketplace/requests", body)
    assert made.status == 201, made
    return [made]


async def complete(engine: Engine, key: str) -> Answers:
    """The same at the OpenAI-compatible edge, by its header."""
    body = {"model": "other-model", "messages": [{"role": "user", "content": "hello"}]}
    made = await _call(engine, "POST", "/v1/chat/completions", body, **{"idempotency-key": f"{key}!"})
    assert made.status == 200, made
    return [made]


async def name_a_key(engine: Engine, name: str) -> Answers:
    """An API key called as another network's device is."""
    made = await _call(engine, "POST", "/api/v1/keys", {"name": name})
    assert made.status == 201, made
    return [made, await _call(engine, "DELETE", f"/api/v1/keys/{json.loads(made.body)['key_id']}")]


async def refresh(engine: Engine, user: str) -> Answers:
    """A forged refresh token that names a user."""
    raw = UUID(user).bytes + bytes(16) + bytes(4) + bytes(32)
    token = REFRESH_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    now = int(engine.stand.services.clock.now().timestamp())
    body = {"refresh_token": token, "at_seconds": now, "proof": encode_bytes(bytes(64))}
    return [await _call(engine, "POST", "/api/v1/users/refresh", body)]


ACTS: Final[dict[str, tuple[str, Act]]] = {
    "register a device": ("device_id", register_device),
    "top up": ("idempotency", top_up),
    "buy": ("idempotency", buy),
    "complete": ("idempotency", complete),
    "name a key": ("device_id", name_a_key),
    "refresh": ("user", refresh),
}
"""By what is done: whose kind of id is used for it."""


async def act(engine: Engine, name: str) -> list[Difference]:
    """With every id of the kind that is or was somebody's, against one that never was."""
    kind, does = ACTS[name]
    found = []
    before = await engine.stand.rows.taken()
    for state, known in engine.stand.ids.items():
        if kind not in known:
            continue
        value, never = known[kind], forms.twin(known[kind], engine.draw)
        answers = {one: await does(engine, one) for one in engine.draw.sample((value, never), 2)}
        there, nowhere = ([_shown(one, which) for one in answers[which]] for which in (value, never))
        if there != nowhere:
            found.append(
                Difference(f"{name} with {state} {kind}", f"{there}, {nowhere} with one that never was")
            )
    tables = changed(before, await engine.stand.rows.taken())
    return found + [Difference(name, f"A's rows of {table} changed") for table in tables]


def _shown(seen: Seen, value: str) -> Seen:
    body = seen.body.replace(value.encode(), b"<id>")
    for pattern, word in _MADE:
        body = pattern.sub(word, body)
    headers = tuple(header for header in seen.headers if header[0] not in _PER_ANSWER)
    return Seen(seen.status, headers, body)
