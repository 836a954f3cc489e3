"""Where an id fits into each route, and which of A's ids are tried there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.isolation.conftest import MODEL
from yggdrasil.wire.hand_over import take_message
from yggdrasil.wire.proof import encode_bytes

ANY_KEY = encode_bytes(bytes(range(32)))


@dataclass(frozen=True)
class Slot:
    """A place for an id. `names`: which of A's ids are tried there."""

    place: str
    names: tuple[str, ...]
    body: Callable[[str], Any] | None = None
    query: Callable[[str], dict[str, str]] | None = None


@dataclass(frozen=True)
class Probe:
    """How a route is probed. `why_none` says why no id can be put into it."""

    slots: tuple[Slot, ...] = ()
    why_none: str = ""
    fields: tuple[str, ...] = field(default=())


CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
TERMS = [{"model": MODEL, "kind": "chat", "price_cents": 1}]
NOBODY = Probe(why_none="acts on the caller alone; takes no id")
WORDS = ("bought", "sold")
WISH_SLOTS = (
    Slot("only", ("offer",), body=lambda value: {"kind": "chat", "request": CHAT, "only": [value]}),
    Slot(
        "order",
        ("offer",),
        body=lambda value: {"kind": "chat", "request": CHAT, "order": [value], "allow_fallbacks": False},
    ),
)


def taken(flow: str, code: str | None) -> dict[str, Any]:
    """B's device takes, and its proof holds: the answer is about the ask."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    said = take_message(UUID(flow), code)
    body = {
        "flow": flow,
        "device_key": encode_bytes(key.public_key().public_bytes_raw()),
        "proof": encode_bytes(key.sign(said)),
    }
    return body if code is None else {**body, "code": code}


def said_yes(flow: str) -> dict[str, Any]:
    """Refused for its proof; `test_hand_over.py` says yes with B's own key."""
    return {"check": "000000", "at_seconds": int(time.time()), "proof": encode_bytes(bytes(64))}


def wished(body: dict[str, Any]) -> tuple[Slot, ...]:
    """The places where an offer can be wished for at the OpenAI-compatible edge."""
    return tuple(
        Slot(
            f"{place}.{wish}",
            ("offer",),
            body=lambda value, place=place, wish=wish, more=more: {**body, place: {**more, wish: [value]}},  # type: ignore[misc]
        )
        for place in ("yggdrasil", "provider")
        for wish, more in (("only", {}), ("order", {"allow_fallbacks": False}))
    )


PROBES: dict[tuple[str, str], Probe] = {
    ("POST", "/api/v1/users/register"): NOBODY,
    ("POST", "/api/v1/users/login"): NOBODY,
    ("POST", "/api/v1/users/verify"): Probe(
        (
            Slot(
                "flow",
                ("flow",),
                body=lambda value: {
                    "flow": value,
                    "code": "00000000",
                    "device_key": ANY_KEY,
                    "proof": encode_bytes(bytes(64)),
                },
            ),
        )
    ),
    ("POST", "/api/v1/users/refresh"): NOBODY,
    ("POST", "/api/v1/users/hand-overs/ask"): NOBODY,
    ("POST", "/api/v1/users/hand-overs/take"): Probe(
        tuple(
            Slot("flow", ("ask",), body=lambda value, code=code: taken(value, code))  # type: ignore[misc]
            for code in (None, "00000000")
        )
    ),
    ("GET", "/api/v1/users/me/hand-over-asks"): NOBODY,
    ("POST", "/api/v1/users/me/hand-over-asks/{flow}/approve"): Probe(
        (Slot("flow", ("ask", "hand_over"), body=lambda value: said_yes(value)),)
    ),
    ("DELETE", "/api/v1/users/me/hand-over-asks/{flow}"): Probe((Slot("flow", ("ask", "hand_over")),)),
    ("GET", "/api/v1/users/me/hand-overs"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("DELETE", "/api/v1/users/me/hand-overs/{hand_over_id}"): Probe(
        (Slot("hand_over_id", ("hand_over", "ask", "device")),)
    ),
    ("POST", "/api/v1/users/logout"): NOBODY,
    ("GET", "/api/v1/users/me"): NOBODY,
    ("PUT", "/api/v1/users/me"): NOBODY,
    ("DELETE", "/api/v1/users/me"): NOBODY,
    ("GET", "/api/v1/keys"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("POST", "/api/v1/keys"): NOBODY,
    ("POST", "/api/v1/keys/{key_id}/rotate"): Probe(
        (Slot("key_id", ("key", "bought", "device"), body=lambda value: {"overlap_seconds": 60}),)
    ),
    ("DELETE", "/api/v1/keys/{key_id}"): Probe((Slot("key_id", ("key", "bought", "device")),)),
    ("GET", "/api/v1/devices"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("POST", "/api/v1/devices"): Probe(
        (
            Slot(
                "device_id",
                ("device_id",),
                body=lambda value: {
                    "device_id": value,
                    "name": "x",
                    "world": "Alfheim",
                    "device_key": ANY_KEY,
                    "proof": encode_bytes(bytes(64)),
                },
            ),
        )
    ),
    ("GET", "/api/v1/devices/{device_id}"): Probe((Slot("device_id", ("device_id", "device")),)),
    ("PUT", "/api/v1/devices/{device_id}"): Probe(
        (Slot("device_id", ("device_id", "device"), body=lambda value: {"name": "stolen"}),)
    ),
    ("DELETE", "/api/v1/devices/{device_id}"): Probe((Slot("device_id", ("device_id", "device")),)),
    ("GET", "/api/v1/payments/methods"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("POST", "/api/v1/payments/methods"): NOBODY,
    ("POST", "/api/v1/payments/methods/{method_id}/verify"): Probe(
        (Slot("method_id", ("method",), body=lambda value: {}),)
    ),
    ("DELETE", "/api/v1/payments/methods/{method_id}"): Probe((Slot("method_id", ("method",)),)),
    ("POST", "/api/v1/payments/process"): Probe(
        (
            Slot(
                "method_id",
                ("method",),
                body=lambda value: {
                    "method_id": value,
                    "amount_cents": 100,
                    "idempotency_key": "probe",
                },
            ),
        )
    ),
    ("GET", "/api/v1/payments/balance"): NOBODY,
    ("POST", "/api/v1/marketplace/providers/register"): Probe(
        (
            Slot(
                "device_id",
                ("device_id",),
                body=lambda value: {"device_id": value, "models": TERMS, "audience": "own"},
            ),
        )
    ),
    ("GET", "/api/v1/marketplace/providers"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the list the caller sees"
    ),
    ("GET", "/api/v1/marketplace/providers/{provider_id}"): Probe(
        (
            Slot("provider_id", ("provider", "device")),
            Slot("provider_id", ("offer",)),
        )
    ),
    ("PUT", "/api/v1/marketplace/providers/{provider_id}"): Probe(
        (
            Slot("provider_id", ("provider", "device"), body=lambda value: {"status": "paused"}),
            Slot("provider_id", ("offer",), body=lambda value: {"status": "paused"}),
        )
    ),
    ("DELETE", "/api/v1/marketplace/providers/{provider_id}"): Probe(
        (
            Slot("provider_id", ("provider", "device")),
            Slot("provider_id", ("offer",)),
        )
    ),
    ("GET", "/api/v1/marketplace/providers/{provider_id}/work"): Probe(
        (
            Slot("provider_id", ("provider", "device")),
            Slot("provider_id", ("offer",)),
        )
    ),
    ("GET", "/api/v1/marketplace/sharing"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("GET", "/api/v1/marketplace/registrations"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("GET", "/api/v1/marketplace/registrations/{registration_id}"): Probe(
        (Slot("registration_id", ("registration", "provider")),)
    ),
    ("POST", "/api/v1/marketplace/registrations/{registration_id}/appeal"): Probe(
        (Slot("registration_id", ("registration", "provider")),)
    ),
    ("POST", "/api/v1/marketplace/requests"): Probe(WISH_SLOTS, fields=("ignore",)),
    ("GET", "/api/v1/marketplace/requests/{transaction_id}"): Probe((Slot("transaction_id", WORDS),)),
    ("GET", "/api/v1/marketplace/requests/{transaction_id}/result"): Probe((Slot("transaction_id", WORDS),)),
    ("POST", "/api/v1/marketplace/requests/{transaction_id}/cancel"): Probe((Slot("transaction_id", WORDS),)),
    ("POST", "/api/v1/marketplace/requests/{transaction_id}/feedback"): Probe(
        (Slot("transaction_id", WORDS, body=lambda value: {"score": 1}),)
    ),
    ("GET", "/api/v1/marketplace/transactions"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("GET", "/api/v1/marketplace/transactions/{transaction_id}"): Probe((Slot("transaction_id", WORDS),)),
    ("GET", "/api/v1/marketplace/analytics/provider"): NOBODY,
    ("GET", "/api/v1/marketplace/analytics/requester"): NOBODY,
    ("GET", "/v1/models"): NOBODY,
    ("GET", "/v1/models/{model}"): Probe((Slot("model", ("device_id", "provider", "offer")),)),
    ("POST", "/v1/chat/completions"): Probe(
        wished(CHAT),
        # `tool_call_id` is a word of the caller's own prompt; `provider` holds the wishes.
        fields=("ignore", "tool_call_id", "provider"),
    ),
    ("POST", "/v1/responses"): Probe(
        (
            *wished({"model": MODEL, "input": "hi"}),
            Slot(
                "previous_response_id",
                ("bought",),
                body=lambda value: {"model": MODEL, "input": "hi", "previous_response_id": value},
            ),
        ),
        # `call_id` and an item's `id` are words of the caller's own prompt.
        fields=("ignore", "call_id", "id", "provider"),
    ),
    ("POST", "/v1/embeddings"): Probe(wished({"model": MODEL, "input": "hi"}), fields=("ignore", "provider")),
    ("GET", "/api/v1/users/me/visibility"): NOBODY,
    ("GET", "/api/v1/users/me/visibility/members"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("POST", "/api/v1/users/switch"): Probe(
        (
            Slot(
                "network_id",
                ("network", "user"),
                body=lambda value: {
                    "refresh_token": "ygr_x",
                    "network_id": value,
                    "at_seconds": 0,
                    "proof": encode_bytes(bytes(64)),
                },
            ),
        )
    ),
    ("GET", "/api/v1/users/me/networks"): NOBODY,
    # An invitation is signed by the device that accepts: tests/users/test_invitations.py probes it.
    ("POST", "/api/v1/users/me/networks"): NOBODY,
    ("DELETE", "/api/v1/users/me/networks/{network_id}"): Probe((Slot("network_id", ("network", "user")),)),
    ("GET", "/api/v1/members"): NOBODY,
    ("PUT", "/api/v1/members/{user_id}"): Probe(
        (Slot("user_id", ("user", "network"), body=lambda value: {"role": "guest"}),)
    ),
    ("DELETE", "/api/v1/members/{user_id}"): Probe((Slot("user_id", ("user", "network")),)),
    ("GET", "/api/v1/members/invitations"): NOBODY,
    ("POST", "/api/v1/members/invitations"): NOBODY,
    ("DELETE", "/api/v1/members/invitations/{invitation_id}"): Probe(
        (Slot("invitation_id", ("invitation", "user")),)
    ),
    ("GET", "/api/v1/users/me/openings"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("GET", "/api/v1/audit"): Probe(
        fields=("cursor",), why_none="a cursor is a place in the caller's own list"
    ),
    ("GET", "/api/v1/audit/head"): NOBODY,
    ("GET", "/api/v1/admin/overview"): NOBODY,
    **{
        ("GET", f"/api/v1/admin/{name}"): Probe(fields=("cursor",), why_none="answers operators alone")
        for name in ("networks", "providers", "holds", "audit")
    },
    # Without a body, which nobody reads at an unknown path: whether the connection outlives it is chance.
    ("POST", "/api/v1/admin/networks/{network_id}/open"): Probe((Slot("network_id", ("bought", "device")),)),
    ("POST", "/api/v1/admin/requests/{request_id}/open"): Probe((Slot("request_id", WORDS),)),
    ("GET", "/api/v1/users/me/limits"): NOBODY,
    ("PUT", "/api/v1/admin/networks/{network_id}/tier"): Probe((Slot("network_id", ("bought", "device")),)),
    ("GET", "/health/live"): NOBODY,
    ("GET", "/health/ready"): NOBODY,
    ("GET", "/health/isolation"): Probe(why_none="answers operators alone"),
    ("GET", "/metrics"): NOBODY,
    ("GET", "/dev/mail"): NOBODY,
    ("GET", "/dev/mail/messages"): NOBODY,
    ("GET", "/docs"): NOBODY,
    ("GET", "/docs/errors"): NOBODY,
    ("GET", "/docs/errors/{code}"): Probe(fields=("code",), why_none="a code is everybody's"),
    ("GET", "/schema/openapi.json"): NOBODY,
    ("GET", "/schema"): NOBODY,
    ("GET", "/schema/{path}"): Probe(fields=("path",), why_none="the API's own document"),
}
