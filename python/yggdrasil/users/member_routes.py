"""The REST edge of members and invitations. The bodies are those of docs/members.md."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.params import FromPath, JSONBody

from yggdrasil.kernel import Role
from yggdrasil.users.codes import PROOF_BYTES
from yggdrasil.users.invitations import TEXT_CHARS
from yggdrasil.users.inviting import SECONDS_MIN, InvitationInfo
from yggdrasil.users.members import MemberInfo
from yggdrasil.users.roles import Action
from yggdrasil.users.routes import (
    NO_STORE,
    CallerDependency,
    DisplayName,
    Email,
    ProofText,
    RefreshText,
    TokensView,
    UnixSeconds,
    UsersDependency,
    tokens_answer,
)
from yggdrasil.users.settings import DAY_SECONDS
from yggdrasil.users.store_members import Member
from yggdrasil.wire.proof import decode_bytes

GivenRole = Literal["admin", "member", "guest"]
InvitationText = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARS)]


class SwitchBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Trade a refresh token for a session in another network of one's own; the token stays good."""

    refresh_token: RefreshText
    network_id: UUID
    at_seconds: UnixSeconds
    proof: ProofText


class AcceptBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An invitation as it was mailed; `proof` by the key of this session."""

    invitation: InvitationText
    at_seconds: UnixSeconds
    proof: ProofText


class NetworkView(msgspec.Struct, frozen=True):
    """A network one is a member of. `name`: what its inviter called it; one's own has none."""

    network_id: UUID
    name: str | None
    role: str
    joined_at: datetime


class NetworksView(msgspec.Struct, frozen=True):
    """All of them, the own one first."""

    items: list[NetworkView]


class RoleBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A member's role from now on. Ownership is not given."""

    role: GivenRole


class MemberView(msgspec.Struct, frozen=True):
    """A member. Address and display name of an owner are told to the owner alone."""

    user_id: UUID
    role: str
    joined_at: datetime
    email: str | None
    display_name: str | None


class MembersView(msgspec.Struct, frozen=True):
    """All of them, the oldest first."""

    items: list[MemberView]


class InviteBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Whom to invite, as what; `name` is what the invited person will call the network."""

    email: Email
    name: DisplayName
    role: GivenRole = "member"
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=SECONDS_MIN, le=30 * DAY_SECONDS)] = 7 * DAY_SECONDS


class InvitationView(msgspec.Struct, frozen=True):
    """An open invitation. Its secret is in its mail and nowhere else."""

    invitation_id: UUID
    email: str | None
    role: str
    name: str
    invited_by: UUID
    created_at: datetime
    expires_at: datetime


class InvitationsView(msgspec.Struct, frozen=True):
    """All of them, the oldest first."""

    items: list[InvitationView]


@post("/users/switch", status_code=200, summary="Open a session in another network of mine")
async def switch(users: UsersDependency, data: JSONBody[SwitchBody]) -> Response[TokensView]:
    """Of the same device key; the session that asks goes on. A network that one is no member of is not
    found."""
    tokens = await users.switch(
        refresh_token=data.refresh_token,
        network_id=data.network_id,
        at_seconds=data.at_seconds,
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    return tokens_answer(tokens)


@get("/users/me/networks", action=Action.OWN_ACCOUNT, summary="The networks I am a member of")
async def list_networks(users: UsersDependency, caller: CallerDependency) -> Response[NetworksView]:
    """For `switch`."""
    found = await users.members.mine(caller)
    return Response(NetworksView([_network(one) for one in found]), headers=NO_STORE)


@post("/users/me/networks", action=Action.OWN_ACCOUNT, summary="Accept an invitation")
async def accept(
    users: UsersDependency, caller: CallerDependency, data: JSONBody[AcceptBody]
) -> Response[NetworkView]:
    """For whoever has proven the invited address and holds the invitation; to everybody else it is not
    found. Then `switch` to the network."""
    member = await users.inviting.accept(
        caller,
        text=data.invitation,
        at_seconds=data.at_seconds,
        proof=decode_bytes(data.proof, PROOF_BYTES, "proof"),
    )
    return Response(_network(member), headers=NO_STORE)


@delete("/users/me/networks/{network_id:uuid}", action=Action.OWN_ACCOUNT, summary="Leave a network")
async def leave(users: UsersDependency, caller: CallerDependency, network_id: FromPath[UUID]) -> None:
    """One's sessions, keys, devices and payment methods there end with it. Its owner cannot leave."""
    await users.members.leave(caller, network_id)


@get("/members", action=Action.MEMBERS, summary="The members of my network")
async def list_members(users: UsersDependency, caller: CallerDependency) -> Response[MembersView]:
    """For its owner and admins."""
    found = await users.members.listed(caller)
    return Response(MembersView([_member(one) for one in found]), headers=NO_STORE)


@put("/members/{user_id:uuid}", action=Action.MEMBERS, summary="Give a member another role")
async def change_member(
    users: UsersDependency, caller: CallerDependency, user_id: FromPath[UUID], data: JSONBody[RoleBody]
) -> Response[MemberView]:
    """At once: tokens with the old role are refused, and refreshed ones have the new."""
    return Response(
        _member(await users.members.change_role(caller, user_id, Role(data.role))), headers=NO_STORE
    )


@delete("/members/{user_id:uuid}", action=Action.MEMBERS, summary="Remove a member")
async def remove_member(users: UsersDependency, caller: CallerDependency, user_id: FromPath[UUID]) -> None:
    """At once: the member's tokens, keys, sockets and devices in this network end, and nowhere else."""
    await users.members.remove(caller, user_id)


@post("/members/invitations", action=Action.MEMBERS, summary="Invite an address")
async def invite(
    users: UsersDependency, caller: CallerDependency, data: JSONBody[InviteBody]
) -> Response[InvitationView]:
    """The invitation is mailed after the answer, which is the same for addresses with and without an
    account."""
    made = await users.inviting.invite(
        caller, email=data.email, role=Role(data.role), name=data.name, seconds=data.expires_in_seconds
    )
    return Response(_invitation(made), headers=NO_STORE)


@get("/members/invitations", action=Action.MEMBERS, summary="The open invitations of my network")
async def list_invitations(users: UsersDependency, caller: CallerDependency) -> Response[InvitationsView]:
    """Without their secrets."""
    found = await users.inviting.listed(caller)
    return Response(InvitationsView([_invitation(one) for one in found]), headers=NO_STORE)


@delete("/members/invitations/{invitation_id:uuid}", action=Action.MEMBERS, summary="Revoke an invitation")
async def revoke_invitation(
    users: UsersDependency, caller: CallerDependency, invitation_id: FromPath[UUID]
) -> None:
    """It can be accepted no more."""
    await users.inviting.revoke(caller, invitation_id)


def _network(one: Member) -> NetworkView:
    return NetworkView(one.network_id, one.name, one.role.value, one.created_at)


def _member(one: MemberInfo) -> MemberView:
    return MemberView(one.user_id, one.role.value, one.joined_at, one.email, one.display_name)


def _invitation(one: InvitationInfo) -> InvitationView:
    return InvitationView(
        one.invitation_id,
        one.email,
        one.role.value,
        one.name,
        one.invited_by,
        one.created_at,
        one.expires_at,
    )


router = Router(
    path="/api/v1",
    route_handlers=[
        switch,
        list_networks,
        accept,
        leave,
        list_members,
        change_member,
        remove_member,
        invite,
        list_invitations,
        revoke_invitation,
    ],
    tags=["members"],
)
