"""The REST edge of sign-in: `/api/v1/users` and `/api/v1/keys`. The bodies are those of docs/protocol/sign-
in.md.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from yggdrasil.kernel import Network
from yggdrasil.users.codes import CODE_DIGITS, DEVICE_KEY_BYTES, PROOF_BYTES
from yggdrasil.users.keyring import (
    LIMIT_MICROCENTS_MAX,
    MODEL_CHARS_MAX,
    MODELS_MAX,
    OVERLAP_SECONDS_MAX,
)
from yggdrasil.users.roles import Action
from yggdrasil.users.service import Me, Users
from yggdrasil.users.sessions import Tokens
from yggdrasil.users.signin import NAME_CHARS_MAX
from yggdrasil.users.store_keys import KeyTerms
from yggdrasil.users.tokens import REFRESH_CHARS
from yggdrasil.wire.proof import decode_bytes

Email = Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
DisplayName = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)]
KeyText = Annotated[str, msgspec.Meta(min_length=43, max_length=43)]
ProofText = Annotated[str, msgspec.Meta(min_length=86, max_length=86)]
UnixSeconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Code = Annotated[str, msgspec.Meta(pattern=rf"^[0-9]{{{CODE_DIGITS}}}$", max_length=CODE_DIGITS)]
RefreshText = Annotated[str, msgspec.Meta(min_length=1, max_length=REFRESH_CHARS)]
LimitMicrocents = Annotated[int, msgspec.Meta(ge=0, le=LIMIT_MICROCENTS_MAX)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=MODEL_CHARS_MAX)]
UsersDependency = NamedDependency[SkipValidation[Users]]
CallerDependency = NamedDependency[SkipValidation[Network]]
NO_STORE = {"cache-control": "no-store"}


class LoginBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Ask for a code."""

    email: Email
    device_key: KeyText
    at_seconds: UnixSeconds | None = None
    proof: ProofText | None = None


class RegisterBody(LoginBody, forbid_unknown_fields=True, frozen=True):
    """Ask for a code, and say how to be called if the account is new."""

    display_name: DisplayName | None = None


class StartedView(msgspec.Struct, frozen=True):
    """The sign-in that was asked for."""

    flow: UUID
    expires_in_seconds: int


class VerifyBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Prove the code and the device key."""

    flow: UUID
    code: Code
    device_key: KeyText
    proof: ProofText


class RefreshBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Trade a refresh token for its successor."""

    refresh_token: RefreshText
    at_seconds: UnixSeconds
    proof: ProofText


class TokensView(msgspec.Struct, frozen=True):
    """What a device keeps after sign-in and refresh."""

    access_token: str
    token_type: str
    expires_in_seconds: int
    refresh_token: str
    refresh_expires_in_seconds: int
    user_id: UUID
    network_id: UUID
    session_id: UUID
    role: str


class MeView(msgspec.Struct, frozen=True):
    """The person who asks."""

    user_id: UUID
    network_id: UUID
    role: str
    email: str
    display_name: str | None
    created_at: datetime


class MeBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a person may change."""

    display_name: DisplayName


class KeyBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A new API key. Limits are micro-cents, in all and in each month (UTC); none of these terms can be
    changed later.
    """

    name: DisplayName
    spend_limit_microcents: LimitMicrocents | None = None
    monthly_limit_microcents: LimitMicrocents | None = None
    models: Annotated[list[ModelName], msgspec.Meta(min_length=1, max_length=MODELS_MAX)] | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class RotateBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For how long the present text of a key goes on working beside the new one."""

    overlap_seconds: Annotated[int, msgspec.Meta(ge=0, le=OVERLAP_SECONDS_MAX)]


class KeyView(msgspec.Struct, frozen=True):
    """An API key without its secret. `previous_until`: the text before the last rotation works until then;
    `month_…`: this month, in UTC; `last_used_at` lags by a minute.
    """

    key_id: UUID
    name: str
    created_at: datetime
    spend_limit_microcents: int | None
    monthly_limit_microcents: int | None
    models: list[str] | None
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_at: datetime | None
    previous_until: datetime | None
    spent_microcents: int
    held_microcents: int
    month_spent_microcents: int
    month_held_microcents: int


class NewKeyView(KeyView, frozen=True):
    """An API key, with the text that is shown this once."""

    key: str


class KeysView(msgspec.Struct, frozen=True):
    """A page of API keys."""

    items: list[KeyView]
    next: str | None


@post("/users/register", status_code=202, summary="Ask for a code, known or new")
async def register(users: UsersDependency, data: JSONBody[RegisterBody]) -> Response[StartedView]:
    """The answer is the same for known and unknown addresses."""
    return await _start(users, data, data.display_name)


@post("/users/login", status_code=202, summary="Ask for a code")
async def login(users: UsersDependency, data: JSONBody[LoginBody]) -> Response[StartedView]:
    """The answer is the same for known and unknown addresses."""
    return await _start(users, data, None)


async def _start(users: Users, data: LoginBody, display_name: str | None) -> Response[StartedView]:
    started = await users.sign_in(
        email=data.email,
        device_key=decode_bytes(data.device_key, DEVICE_KEY_BYTES, "device_key"),
        display_name=display_name,
        at_seconds=data.at_seconds,
        proof=None if data.proof is None else decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    return Response(StartedView(started.flow, started.expires_in_seconds), headers=NO_STORE)


@post("/users/verify", status_code=200, summary="Prove the code with the device key")
async def verify(users: UsersDependency, data: JSONBody[VerifyBody]) -> Response[TokensView]:
    """Signs in; founds the account if the address is new."""
    tokens = await users.verify(
        flow=data.flow,
        code=data.code,
        device_key=decode_bytes(data.device_key, DEVICE_KEY_BYTES, "device_key"),
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    return tokens_answer(tokens)


@post("/users/refresh", status_code=200, summary="Trade a refresh token for its successor")
async def refresh(users: UsersDependency, data: JSONBody[RefreshBody]) -> Response[TokensView]:
    """A retry gets the same successor; a token in the wrong hands ends the session."""
    tokens = await users.refresh(
        refresh_token=data.refresh_token,
        at_seconds=data.at_seconds,
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    return tokens_answer(tokens)


def tokens_answer(tokens: Tokens) -> Response[TokensView]:
    """What a device keeps; no cache does."""
    view = TokensView(
        access_token=tokens.access_token,
        token_type="Bearer",  # noqa: S106  a word of RFC 6750
        expires_in_seconds=tokens.expires_in_seconds,
        refresh_token=tokens.refresh_token,
        refresh_expires_in_seconds=tokens.refresh_expires_in_seconds,
        user_id=tokens.user_id,
        network_id=tokens.network_id,
        session_id=tokens.session_id,
        role=tokens.role.value,
    )
    return Response(view, headers=NO_STORE)


@post("/users/logout", action=Action.OWN_ACCOUNT, status_code=204, summary="End this session")
async def logout(users: UsersDependency, caller: CallerDependency) -> None:
    """Its tokens are refused and its sockets closed at once."""
    await users.logout(caller)


def _me(me: Me) -> Response[MeView]:
    view = MeView(me.user_id, me.network_id, me.role.value, me.email, me.display_name, me.created_at)
    return Response(view, headers=NO_STORE)


@get("/users/me", action=Action.OWN_ACCOUNT, summary="Who I am")
async def read_me(users: UsersDependency, caller: CallerDependency) -> Response[MeView]:
    """Opened from the vault for this answer."""
    return _me(await users.me(caller))


@put("/users/me", action=Action.OWN_ACCOUNT, summary="Change my display name")
async def update_me(
    users: UsersDependency, caller: CallerDependency, data: JSONBody[MeBody]
) -> Response[MeView]:
    """Sealed into the vault."""
    return _me(await users.rename(caller, data.display_name))


@delete("/users/me", action=Action.OWN_ACCOUNT, summary="Erase me")
async def delete_me(users: UsersDependency, caller: CallerDependency) -> None:
    """Sessions and keys end at once; amounts stay under a pseudonym."""
    await users.delete(caller)


@post("/keys", action=Action.OWN_KEYS, summary="Make an API key")
async def create_key(
    users: UsersDependency, caller: CallerDependency, data: JSONBody[KeyBody]
) -> Response[NewKeyView]:
    """The text of the key is in this answer and nowhere else."""
    terms = KeyTerms(
        data.spend_limit_microcents,
        data.monthly_limit_microcents,
        None if data.models is None else tuple(data.models),
        data.expires_at,
    )
    info, text = await users.create_key(caller, data.name, terms)
    return Response(NewKeyView(**asdict(info), key=text), headers=NO_STORE)


@post(
    "/keys/{key_id:uuid}/rotate",
    action=Action.OWN_KEYS,
    status_code=200,
    summary="Give an API key another text",
)
async def rotate_key(
    users: UsersDependency, caller: CallerDependency, key_id: FromPath[UUID], data: JSONBody[RotateBody]
) -> Response[NewKeyView]:
    """The new text is in this answer and nowhere else; the present one works until the overlap ends."""
    info, text = await users.rotate_key(caller, key_id, data.overlap_seconds)
    return Response(NewKeyView(**asdict(info), key=text), headers=NO_STORE)


@get("/keys", action=Action.OWN_KEYS, summary="My working API keys")
async def list_keys(
    users: UsersDependency,
    caller: CallerDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> KeysView:
    """Oldest first, without their secrets; with their limits and what they spent."""
    items, following = await users.list_keys(caller, limit=limit, cursor=cursor)
    return KeysView([KeyView(**asdict(info)) for info in items], following)


@delete("/keys/{key_id:uuid}", action=Action.OWN_KEYS, summary="Revoke an API key")
async def revoke_key(users: UsersDependency, caller: CallerDependency, key_id: FromPath[UUID]) -> None:
    """Refused from now on."""
    await users.revoke_key(caller, key_id)


router = Router(
    path="/api/v1",
    route_handlers=[
        register,
        login,
        verify,
        refresh,
        logout,
        read_me,
        update_me,
        delete_me,
        create_key,
        list_keys,
        rotate_key,
        revoke_key,
    ],
    tags=["users"],
)
