"""The REST edge of hand-overs. The bodies are those of docs/protocol/hand-over.md."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from yggdrasil.kernel import Network
from yggdrasil.users.codes import DEVICE_KEY_BYTES, PROOF_BYTES
from yggdrasil.users.roles import Action
from yggdrasil.users.routes import Code, DisplayName, Email, KeyText, ProofText, UnixSeconds
from yggdrasil.users.service import Users
from yggdrasil.wire.hand_over import CHECK_DIGITS, SEALING_KEY_BYTES
from yggdrasil.wire.proof import decode_bytes, encode_bytes

CheckText = Annotated[str, msgspec.Meta(pattern=rf"^[0-9]{{{CHECK_DIGITS}}}$", max_length=CHECK_DIGITS)]
UsersDependency = NamedDependency[SkipValidation[Users]]
CallerDependency = NamedDependency[SkipValidation[Network]]
_NO_STORE = {"cache-control": "no-store"}


class HandOverAskBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A device away from home asks for a network."""

    email: Email
    device_key: KeyText
    sealing_key: KeyText
    device_name: DisplayName
    at_seconds: UnixSeconds
    proof: ProofText


class HandOverAskedView(msgspec.Struct, frozen=True):
    """The ask. `check`: the number to show; it is typed on the device at home that says yes."""

    flow: UUID
    expires_in_seconds: int
    check: str


class HandOverTakeBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Take what was asked for, with the mailed code, or without it once a device at home has said yes."""

    flow: UUID
    device_key: KeyText
    proof: ProofText
    code: Code | None = None


class HandOverTakenView(msgspec.Struct, frozen=True):
    """`given`: the sealed parcel, this once. `waiting`: nobody has said yes yet."""

    state: Literal["given", "waiting"]
    sealed: str | None


class HandOverApproveBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Say yes: `check` is the number that the asking device shows, `proof` is of this device's key."""

    check: CheckText
    at_seconds: UnixSeconds
    proof: ProofText


class OpenAskView(msgspec.Struct, frozen=True):
    """A device that asks in the caller's name."""

    flow: UUID
    device_name: str
    device_key: str
    asked_at: datetime
    expires_at: datetime
    approved: bool


class OpenAsksView(msgspec.Struct, frozen=True):
    """All open asks, newest first."""

    items: list[OpenAskView]


class HandOverView(msgspec.Struct, frozen=True):
    """A hand-over. `state`: `open` while its session lives; `last_used_at`: its last refresh; `approved_by`:
    the device at home that said yes, if one did.
    """

    hand_over_id: UUID
    user_id: UUID
    session_id: UUID
    device_name: str
    device_key: str
    proven_by: str
    approved_by: UUID | None
    asked_at: datetime
    given_at: datetime
    ends_at: datetime
    state: str
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: UUID | None


class HandOversView(msgspec.Struct, frozen=True):
    """A page of hand-overs."""

    items: list[HandOverView]
    next: str | None


@post("/users/hand-overs/ask", status_code=202, summary="Ask for a network on a device away from home")
async def ask_hand_over(
    users: UsersDependency, data: JSONBody[HandOverAskBody]
) -> Response[HandOverAskedView]:
    """The answer is the same for known and unknown addresses."""
    asked = await users.hand_overs.ask(
        email=data.email,
        device_key=decode_bytes(data.device_key, DEVICE_KEY_BYTES, "device_key"),
        sealing_key=decode_bytes(data.sealing_key, SEALING_KEY_BYTES, "sealing_key"),
        device_name=data.device_name,
        at_seconds=data.at_seconds,
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    return Response(HandOverAskedView(asked.flow, asked.expires_in_seconds, asked.check), headers=_NO_STORE)


@post("/users/hand-overs/take", status_code=200, summary="Take the sealed parcel, once")
async def take_hand_over(
    users: UsersDependency, data: JSONBody[HandOverTakeBody]
) -> Response[HandOverTakenView]:
    """Opens with the device's sealing key alone."""
    sealed = await users.hand_overs.take(
        flow=data.flow,
        code=data.code,
        device_key=decode_bytes(data.device_key, DEVICE_KEY_BYTES, "device_key"),
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    view = HandOverTakenView(
        "waiting" if sealed is None else "given", None if sealed is None else encode_bytes(sealed)
    )
    return Response(view, headers=_NO_STORE)


@get("/users/me/hand-over-asks", action=Action.OWN_ACCOUNT, summary="Who asks for a hand-over in my name")
async def list_asks(users: UsersDependency, caller: CallerDependency) -> Response[OpenAsksView]:
    """Without the number, which stands on the device that asks."""
    found = await users.at_home.asks(caller)
    items = [
        OpenAskView(
            one.flow,
            one.device_name,
            encode_bytes(one.device_key),
            one.asked_at,
            one.expires_at,
            one.approved,
        )
        for one in found
    ]
    return Response(OpenAsksView(items), headers=_NO_STORE)


@post(
    "/users/me/hand-over-asks/{flow:uuid}/approve",
    action=Action.OWN_ACCOUNT,
    status_code=204,
    summary="Hand my network over",
)
async def approve_ask(
    users: UsersDependency,
    caller: CallerDependency,
    flow: FromPath[UUID],
    data: JSONBody[HandOverApproveBody],
) -> None:
    """The network of the token, to the device whose number was typed."""
    await users.at_home.approve(
        caller,
        flow=flow,
        check=data.check,
        at_seconds=data.at_seconds,
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )


@delete("/users/me/hand-over-asks/{flow:uuid}", action=Action.OWN_ACCOUNT, summary="Deny an ask")
async def deny_ask(users: UsersDependency, caller: CallerDependency, flow: FromPath[UUID]) -> None:
    """Neither its code nor a yes opens it any more."""
    await users.at_home.deny(caller, flow)


@get("/users/me/hand-overs", action=Action.OWN_ACCOUNT, summary="What was handed over")
async def list_hand_overs(
    users: UsersDependency,
    caller: CallerDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> Response[HandOversView]:
    """Newest first. Owners and admins see all of the network's, others their own."""
    shown, following = await users.at_home.page(caller, limit=limit, cursor=cursor)
    items = [
        HandOverView(
            hand_over_id=one.made.hand_over_id,
            user_id=one.made.user_id,
            session_id=one.made.session_id,
            device_name=one.made.device_name,
            device_key=encode_bytes(one.made.device_key),
            proven_by=one.made.proven_by,
            approved_by=one.made.approved_by,
            asked_at=one.made.asked_at,
            given_at=one.made.given_at,
            ends_at=one.made.ends_at,
            state=one.state,
            last_used_at=one.last_used_at,
            revoked_at=one.made.revoked_at,
            revoked_by=one.made.revoked_by,
        )
        for one in shown
    ]
    return Response(HandOversView(items, following), headers=_NO_STORE)


@delete(
    "/users/me/hand-overs/{hand_over_id:uuid}", action=Action.OWN_ACCOUNT, summary="Take a hand-over back"
)
async def revoke_hand_over(
    users: UsersDependency, caller: CallerDependency, hand_over_id: FromPath[UUID]
) -> None:
    """Tokens are refused and sockets closed at once."""
    await users.at_home.revoke(caller, hand_over_id)


router = Router(
    path="/api/v1",
    route_handlers=[
        ask_hand_over,
        take_hand_over,
        list_asks,
        approve_ask,
        deny_ask,
        list_hand_overs,
        revoke_hand_over,
    ],
    tags=["users"],
)
