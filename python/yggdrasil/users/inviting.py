"""Inviting and accepting. An invitation is bound to an address, which the accepting account has proven, and
to a secret that only its mail holds; it is good once, for a while, and until it is revoked.

Neither answer depends on whether an address has an account, here or anywhere: inviting asks no account, and
accepting has one answer for all that is not exactly so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from yggdrasil.db import Database, Tx
from yggdrasil.errors import Conflict, InvalidInput, LimitReached, NotFound, Unauthenticated
from yggdrasil.kernel import Clock, Identity, IdSource, Network, Role, System
from yggdrasil.mimir.addresses import normalise
from yggdrasil.mimir.sealing import blind_index
from yggdrasil.mimir.service import Mimir
from yggdrasil.users import codes, invitations, store, store_members
from yggdrasil.users.invitations import Invitation
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.mailing import Postman
from yggdrasil.users.members import Check, Members
from yggdrasil.users.roles import INVITED, Action, manages, require
from yggdrasil.users.settings import DAY_SECONDS, UsersSettings
from yggdrasil.users.signin import check_recent
from yggdrasil.users.store_members import Member, StoredInvitation

SECONDS_MIN: Final = 3600
KEPT_SECONDS: Final = 30 * DAY_SECONDS
"""How long the row of an invitation that is over stays."""


@dataclass(frozen=True, slots=True)
class InvitationInfo:
    """An open invitation, for those who manage members. The address is what the inviter typed."""

    invitation_id: UUID
    email: str | None = field(repr=False)
    role: Role
    name: str
    invited_by: UUID
    created_at: datetime
    expires_at: datetime


class Inviting:
    """Invitations of all networks."""

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        postman: Postman,
        clock: Clock,
        ids: IdSource,
        keys: UsersKeys,
        settings: UsersSettings,
        *,
        members: Members,
        check: Check,
    ) -> None:
        self._database = database
        self._mimir = mimir
        self._postman = postman
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._settings = settings
        self._members = members
        self._check = check

    async def invite(
        self, scope: Network, *, email: str, role: Role, name: str, seconds: int | None = None
    ) -> InvitationInfo:
        """Mail an invitation. One that is open for the same address is revoked: the newest counts.

        Errors: InvalidInput, Forbidden, LimitReached; none of them tells anything of the address.
        """
        await self._check(scope, Action.MEMBERS.value)
        address = normalise(email)
        name = invitations.check_network_name(name)
        seconds = self._settings.invitation_seconds if seconds is None else seconds
        if role not in INVITED:
            raise InvalidInput("role must be admin, member or guest", field="role")
        if not SECONDS_MIN <= seconds <= self._settings.invitation_seconds_max:
            raise InvalidInput(
                f"expires_in_seconds must be {SECONDS_MIN} to {self._settings.invitation_seconds_max}",
                field="expires_in_seconds",
            )
        require(scope, manages(role))
        self._postman.check_room()
        now = self._clock.now()
        said = Invitation(scope.network_id, self._ids.uuid(), self._ids.secret(invitations.SECRET_BYTES))
        address_keys = self._address_keys(scope.network_id, address)
        made = StoredInvitation(
            scope.network_id,
            said.invitation_id,
            address_keys[0],
            said.digest(),
            role,
            name,
            scope.user_id,
            now,
            now + timedelta(seconds=seconds),
        )
        # Before the row: an invitation without its address could not be told from others.
        await self._mimir.remember(said.invitation_id, address, None, made.expires_at)
        try:
            replaced = await self._write(scope, made, address_keys)
        except BaseException:
            await self._mimir.forget(said.invitation_id)
            raise
        for invitation_id in replaced:
            await self._mimir.forget(invitation_id)
        if await self._may_mail(address, now):
            self._postman.post(invitations.invitation_mail(address, said, name, role, made.expires_at))
        return _info(made, address)

    async def _write(self, scope: Network, made: StoredInvitation, address_keys: list[bytes]) -> list[UUID]:
        """The row, under the lock and with the inviter's role of this moment; what it replaces."""
        now, settings = made.created_at, self._settings
        async with self._database.transaction(scope) as tx:
            await store_members.lock_members(tx, scope.network_id)
            require(await self._now(tx, scope), manages(made.role))
            replaced = await store_members.revoke_invitations(
                tx, scope.network_id, now, address_keys=address_keys
            )
            is_open, today = await store_members.count_invitations(
                tx, scope.network_id, now, now - timedelta(seconds=DAY_SECONDS)
            )
            if is_open >= settings.invitations_open_max:
                raise LimitReached(
                    f"at most {settings.invitations_open_max} invitations are open; revoke one first"
                )
            if today >= settings.invitations_per_day_max:
                raise LimitReached(
                    f"at most {settings.invitations_per_day_max} invitations in 24 hours",
                    retry_after_seconds=3600,
                )
            await store_members.insert_invitation(tx, made)
        return replaced

    async def _may_mail(self, address: str, now: datetime) -> bool:
        """Nobody is mailed at for ever; and who invites does not learn that others invited too."""
        key = blind_index(self._keys.counters, "address", address)
        async with self._database.transaction(Identity()) as tx:
            count, _ = await store.count_one(tx, "invite", key, now, now - timedelta(seconds=DAY_SECONDS))
        return count <= self._settings.invitation_mails_max

    async def listed(self, scope: Network) -> list[InvitationInfo]:
        """The network's open invitations, oldest first; at most `invitations_open_max`."""
        await self._check(scope, Action.MEMBERS.value)
        require(scope, Action.MEMBERS)
        async with self._database.transaction(scope) as tx:
            found = await store_members.select_invitations(
                tx, scope.network_id, self._clock.now(), self._settings.invitations_open_max
            )
        notes = [await self._mimir.recall(one.invitation_id) for one in found]
        return [
            _info(one, None if note is None else note.address) for one, note in zip(found, notes, strict=True)
        ]

    async def revoke(self, scope: Network, invitation_id: UUID) -> None:
        """End an open invitation. NotFound for all that is none of this network's."""
        await self._check(scope, Action.MEMBERS.value)
        require(scope, Action.MEMBERS)
        now = self._clock.now()
        async with self._database.transaction(scope) as tx:
            await store_members.lock_members(tx, scope.network_id)
            actor = await self._now(tx, scope)
            require(actor, Action.MEMBERS)
            found = await store_members.select_invitation(tx, scope.network_id, invitation_id, now)
            if found is None:
                raise NotFound
            require(actor, manages(found.role))
            if not await store_members.end_invitation(tx, scope.network_id, invitation_id, "revoked", now):
                raise NotFound
        await self._mimir.forget(invitation_id)

    async def accept(self, scope: Network, *, text: str, at_seconds: int, proof: bytes) -> Member:
        """Join the network of an invitation.

        Errors: InvalidInput for a clock or a signature that is off; Conflict for a member already, or a
        network or person with as many as may be; NotFound for all else: no such invitation, expired,
        revoked, used, of another address, with another secret.
        """
        session = await self._check(scope, "accepting an invitation")
        check_recent(at_seconds, self._clock, self._settings.proof_skew_seconds)
        now = self._clock.now()
        if not codes.proof_holds(session.device_key, proof, invitations.accept_message(text, at_seconds)):
            raise InvalidInput(
                "proof must sign 'yggdrasil.v1 accept\\0', SHA-256(invitation) and at_seconds with the key of"
                " this session (Ed25519)",
                field="proof",
            )
        said = invitations.parse(text)
        if said is None:
            raise NotFound
        person = await self._mimir.read(scope.user_id)
        address_keys = self._address_keys(said.network_id, normalise(person.email))
        async with self._database.transaction(Identity(said.network_id, scope.user_id)) as tx:
            # Before the lock: a stranger must not be able to hold up a network.
            if not await self._fits(tx, said, address_keys, now):
                raise NotFound
            await store_members.lock_members(tx, said.network_id)
            if not await store_members.lock_account(tx, scope.user_id):
                raise Unauthenticated
            found = await store_members.select_invitation(tx, said.network_id, said.invitation_id, now)
            if found is None:
                raise NotFound
            if await store_members.select_member(tx, said.network_id, scope.user_id) is not None:
                raise Conflict("you are a member of this network already")
            await self._check_room(tx, said.network_id, scope.user_id)
            member = Member(
                said.network_id,
                scope.user_id,
                found.role,
                await store_members.last_epoch(tx, said.network_id, scope.user_id),
                found.name,
                now,
            )
            ended = await store_members.end_invitation(
                tx, said.network_id, said.invitation_id, "accepted", now
            )
            if not ended:
                raise NotFound
            await self._members.joined(tx, member, found.invited_by, session.device_key)
        await self._mimir.forget(said.invitation_id)
        return member

    async def _now(self, tx: Tx, scope: Network) -> Network:
        """The caller with the role of this moment: the token's may be older."""
        actor = await store.select_role(tx, scope.network_id, scope.user_id)
        if actor is None:
            raise Unauthenticated
        return Network(scope.network_id, scope.user_id, actor[0])

    async def _fits(self, tx: Tx, said: Invitation, address_keys: list[bytes], now: datetime) -> bool:
        """Whether the invitation is open, of this secret and of this address; all three are always asked."""
        found = await store_members.select_invitation(tx, said.network_id, said.invitation_id, now)
        digest, address_key = (
            (found.secret_digest, found.address_key) if found is not None else (bytes(32), bytes(32))
        )
        secret = invitations.same(said.digest(), digest)
        address = any([invitations.same(key, address_key) for key in address_keys])  # noqa: C419
        return found is not None and secret and address

    async def _check_room(self, tx: Tx, network_id: UUID, user_id: UUID) -> None:
        settings = self._settings
        members = await store_members.select_members(tx, network_id, settings.members_max)
        if len(members) >= settings.members_max:
            raise Conflict(f"the network has {settings.members_max} members, as many as may be")
        memberships = await store_members.select_memberships(tx, user_id, settings.memberships_max)
        if len(memberships) >= settings.memberships_max:
            raise Conflict(
                f"you are in {settings.memberships_max} networks, as many as may be; leave one first"
            )

    async def drop_old(self) -> None:
        """Rows of invitations that have been over for long."""
        async with self._database.transaction(System("invitation-retention")) as tx:
            before = self._clock.now() - timedelta(seconds=KEPT_SECONDS)
            await store_members.delete_old_invitations(tx, before)

    def _address_keys(self, network_id: UUID, address: str) -> list[bytes]:
        return [invitations.address_key(key, network_id, address) for key in self._keys.invitations]


def _info(one: StoredInvitation, address: str | None) -> InvitationInfo:
    return InvitationInfo(
        one.invitation_id,
        address,
        one.role,
        one.name,
        one.invited_by,
        one.created_at,
        one.expires_at,
    )
