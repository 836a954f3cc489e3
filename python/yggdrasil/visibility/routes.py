"""`/api/v1/users/me/visibility`: who can see me, and what acts as me. See docs/visibility.md."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from yggdrasil.kernel import Network
from yggdrasil.users.roles import Action
from yggdrasil.visibility.service import Visibility
from yggdrasil.wire.proof import encode_bytes

VisibilityDependency = NamedDependency[SkipValidation[Visibility]]
CallerDependency = NamedDependency[SkipValidation[Network]]
_NO_STORE = {"cache-control": "no-store"}


class DeviceSeen(msgspec.Struct, frozen=True):
    """A device of mine. Whoever sees it sees its presence."""

    device_id: str
    online: bool
    seen_by: list[str]


class ProviderSeen(msgspec.Struct, frozen=True):
    """A provider of mine."""

    provider_id: UUID
    audience: str
    seen_by: list[str]


class OfferSeen(msgspec.Struct, frozen=True):
    """An offer of mine. `market`: what every other network is shown of it at this moment, each under a
    name of its own; null: nothing.
    """

    offer: str
    model: str
    kind: str
    provider_id: UUID | None
    audience: str | None
    seen_by: list[str]
    market: dict[str, Any] | None


class HandOverSeen(msgspec.Struct, frozen=True):
    """A hand-over of mine that is open."""

    hand_over_id: UUID
    session_id: UUID
    device_name: str
    given_at: datetime
    ends_at: datetime
    seen_by: list[str]


class OpeningSeen(msgspec.Struct, frozen=True):
    """What an operator opened, as far as I may know of it."""

    opening_id: UUID
    subject: str
    reason: str
    at: datetime
    seen_by: list[str]


class SessionActing(msgspec.Struct, frozen=True):
    """A session of mine in this network. `ends_at`: of one that was handed over. Nobody else sees it."""

    session_id: UUID
    device_key: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    ends_at: datetime | None
    current: bool


class KeyActing(msgspec.Struct, frozen=True):
    """An API key of mine."""

    key_id: UUID
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    seen_by: list[str]


class VisibilityView(msgspec.Struct, frozen=True):
    """What of me is seen in this network, by which roles, and what acts as me. `requests_seen_by`: prompts,
    answers and transactions; `audit_seen_by`: the network's audit, in which changes that I made stand.
    """

    network_id: UUID
    devices: list[DeviceSeen]
    providers: list[ProviderSeen]
    offers: list[OfferSeen]
    openings: list[OpeningSeen]
    hand_overs: list[HandOverSeen]
    sessions: list[SessionActing]
    api_keys: list[KeyActing]
    requests_seen_by: list[str]
    audit_seen_by: list[str]


class Viewer(msgspec.Struct, frozen=True):
    """A member who sees something of me: by this role, how many of each kind."""

    user_id: UUID
    role: str
    sees: dict[str, int]


class ViewersView(msgspec.Struct, frozen=True):
    """A page of members."""

    items: list[Viewer]
    next: str | None


@get("/users/me/visibility", summary="Who can see me", action=Action.OWN_ACCOUNT)
async def read_visibility(
    visibility: VisibilityDependency, caller: CallerDependency
) -> Response[VisibilityView]:
    """Computed from the permissions in force now, of this token's network; nothing of it is stored."""
    found = await visibility.report(caller)
    looks = found.looks
    view = VisibilityView(
        network_id=caller.network_id,
        devices=[
            DeviceSeen(one.device_id, visibility.online(caller, one.id), _names(looks.device_roles(one.id)))
            for one in looks.mine.devices
        ],
        providers=[
            ProviderSeen(one.id, one.audience, _names(looks.provider_roles(one.id)))
            for one in looks.mine.providers
        ],
        offers=[
            OfferSeen(
                one.view.offer,
                one.view.model,
                one.view.kind,
                one.view.provider_id,
                one.view.audience,
                _names(one.seen_by),
                one.market,
            )
            for one in found.offers
        ],
        openings=[
            OpeningSeen(
                one["opening_id"],
                one["subject"],
                one["reason"],
                one["at"],
                _names(looks.opening_roles(one["opening_id"])),
            )
            for one in found.openings
        ],
        hand_overs=[
            HandOverSeen(
                one.hand_over_id,
                one.session_id,
                one.device_name,
                one.given_at,
                one.ends_at,
                _names(looks.hand_over_roles(one.hand_over_id)),
            )
            for one in looks.mine.hand_overs
        ],
        sessions=[
            SessionActing(
                one.session_id,
                encode_bytes(one.device_key),
                one.created_at,
                one.refreshed_at,
                one.expires_at,
                one.ends_at,
                one.session_id == caller.session_id,
            )
            for one in found.sessions
        ],
        api_keys=[
            KeyActing(
                one.key_id,
                one.name,
                one.created_at,
                one.expires_at,
                one.last_used_at,
                _names(looks.key_roles(one.key_id)),
            )
            for one in found.keys
        ],
        requests_seen_by=_names(looks.request_roles()),
        audit_seen_by=_names(looks.audit_roles()),
    )
    return Response(view, headers=_NO_STORE)


@get("/users/me/visibility/members", summary="Which members can see me", action=Action.MEMBERS)
async def list_viewers(
    visibility: VisibilityDependency,
    caller: CallerDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> Response[ViewersView]:
    """Those who see anything of me at all, with the role they see it by. For owners and admins: to others it
    is not told who the members are, and `seen_by` names the roles.
    """
    items, following = await visibility.viewers(caller, limit=limit, cursor=cursor)
    view = ViewersView([Viewer(user_id, role.value, sees) for user_id, role, sees in items], following)
    return Response(view, headers=_NO_STORE)


def _names(roles: list[Any]) -> list[str]:
    return [role.value for role in roles]


router = Router(path="/api/v1", route_handlers=[read_visibility, list_viewers], tags=["users"])
