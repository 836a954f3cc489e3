"""REST of payment methods, top-ups and balances: /api/v1/payments."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, SkipValidation

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Network
from yggdrasil.payments.service import Payments
from yggdrasil.payments.views import Balance, Method, MethodKind, Purpose, TopUp
from yggdrasil.users.roles import Action

Caller = NamedDependency[SkipValidation[Network]]
Service = NamedDependency[SkipValidation[Payments]]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AddMethod(msgspec.Struct, forbid_unknown_fields=True):
    """A payment method. `gateway_token` comes from the payment provider's own form; never a card number."""

    kind: MethodKind
    purpose: Purpose
    gateway_token: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    label: Annotated[str, msgspec.Meta(max_length=64)] = ""
    is_default: bool = False


class VerifyMethod(msgspec.Struct, forbid_unknown_fields=True):
    """`proof`: what a pending verification asked for, such as the amount of the test transfer in cents."""

    proof: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


class Process(msgspec.Struct, forbid_unknown_fields=True):
    """A top-up. The same `idempotency_key` never charges twice."""

    method_id: UUID
    amount_cents: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    idempotency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class MethodPage(msgspec.Struct):
    """`next` is the cursor of the page behind this one, or null."""

    items: list[Method]
    next: str | None


@post("/methods", action=Action.MONEY)
async def add_method(data: JSONBody[AddMethod], caller: Caller, payments: Service) -> Method:
    """Add a payment method; it must be verified before it is of use."""
    return await payments.add_method(
        caller,
        kind=data.kind,
        purpose=data.purpose,
        gateway_token=data.gateway_token,
        label=data.label,
        is_default=data.is_default,
    )


@get("/methods", action=Action.MONEY)
async def list_methods(
    caller: Caller,
    payments: Service,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    cursor: FromQuery[str | None] = None,
) -> MethodPage:
    """The network's payment methods, the oldest first."""
    after = None if cursor is None else decode_cursor(cursor)
    found = await payments.list_methods(caller, after=after, limit=limit + 1)
    items = list(found[:limit])
    more = len(found) > limit
    return MethodPage(items, encode_cursor(items[-1].created_at, items[-1].method_id) if more else None)


@post("/methods/{method_id:uuid}/verify", action=Action.MONEY, status_code=200)
async def verify_method(
    method_id: FromPath[UUID], data: JSONBody[VerifyMethod], caller: Caller, payments: Service
) -> Method:
    """Have the payment provider check a method."""
    return await payments.verify_method(caller, method_id, proof=data.proof)


@delete("/methods/{method_id:uuid}", action=Action.MONEY)
async def remove_method(method_id: FromPath[UUID], caller: Caller, payments: Service) -> None:
    """Remove a payment method."""
    await payments.remove_method(caller, method_id)


@post("/process", action=Action.MONEY, status_code=200)
async def process(data: JSONBody[Process], caller: Caller, payments: Service) -> TopUp:
    """Top the wallet up. Ask again with the same body to see how it ended."""
    return await payments.top_up(
        caller, method_id=data.method_id, amount_cents=data.amount_cents, idempotency_key=data.idempotency_key
    )


@get("/balance", action=Action.MONEY)
async def balance(caller: Caller, payments: Service) -> Balance:
    """What the network has, in micro-cents."""
    return await payments.balance(caller)


def encode_cursor(at: datetime, method_id: UUID) -> str:
    """An opaque place in a list ordered by (time, id)."""
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    return urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + method_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """InvalidInput for anything `encode_cursor` did not make."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        at = _EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big", signed=True))
        place = at, UUID(bytes=raw[8:])
    except (ValueError, OverflowError) as error:
        raise InvalidInput("cursor: must be the `next` of the page before", field="cursor") from error
    if encode_cursor(*place) != cursor:
        raise InvalidInput("cursor: must be the `next` of the page before", field="cursor")
    return place


router: Final = Router(
    "/api/v1/payments",
    route_handlers=[add_method, list_methods, verify_method, remove_method, process, balance],
    tags=["payments"],
)
