"""Members of a network: who they are, what role they have, how they come and go. docs/members.md.

A network is joined by an invitation alone, and never by anything of an address. Every change takes the lock
of its network and reads the role of whoever asks anew, so that two changes at once have an order, and
passes `_changed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from yggdrasil.audit import Actor, ActorKind, Event, EventKind, record
from yggdrasil.db import Database, Tx
from yggdrasil.errors import Conflict, Forbidden, NotFound, Unauthenticated
from yggdrasil.kernel import Clock, Identity, IdSource, Network, Role
from yggdrasil.mimir.service import Mimir
from yggdrasil.users import store, store_members
from yggdrasil.users.gate import Revocation
from yggdrasil.users.roles import Action, manages, may, require
from yggdrasil.users.settings import UsersSettings
from yggdrasil.users.store_hand_over import LiveSession
from yggdrasil.users.store_members import Member

OnChanged = Callable[[Tx, UUID, UUID, Role | None], Awaitable[Callable[[], None] | None]]
Spread = Callable[[list[Revocation], int], None]
Check = Callable[[Network, str], Awaitable[LiveSession]]
"""The session of a caller who is signed in at home; Forbidden for API keys and sessions away."""
_MANAGING: Final = Action.MEMBERS.value


@dataclass(frozen=True, slots=True)
class Change:
    """A permission that changed: who did it to whom. No role before: joined. None after: left or removed."""

    network_id: UUID
    user_id: UUID
    by: UUID
    before: Role | None
    after: Role | None
    epoch: int


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member, for those who manage members. The address is that of the invitation; a founder's is not
    told, nor its name."""

    user_id: UUID
    role: Role
    joined_at: datetime
    email: str | None = field(repr=False)
    display_name: str | None = field(repr=False)


class Members:
    """`on_changed` is called in the transaction of every change, with the member's role from now on (None: no
    member any more), for what else ends with it; what it answers is called after the commit.
    `withdraw(network, user)` takes back a member's ways to pay, in a transaction of its own.
    """

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        clock: Clock,
        ids: IdSource,
        settings: UsersSettings,
        *,
        spread: Spread,
        check: Check,
    ) -> None:
        self.on_changed: list[OnChanged] = []
        self.withdraw: Callable[[UUID, UUID], Awaitable[None]] | None = None
        self._database = database
        self._mimir = mimir
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._spread = spread
        self._check = check

    # For who is a member

    async def mine(self, scope: Network) -> list[Member]:
        """The caller's memberships, the home network first."""
        await self._check(scope, "listing one's networks")
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            return await store_members.select_memberships(
                tx, scope.user_id, self._settings.memberships_max + 1
            )

    async def leave(self, scope: Network, network_id: UUID) -> None:
        """Stop being a member. NotFound for a network one is no member of; Conflict for its owner."""
        await self._check(scope, "leaving a network")
        async with self._database.transaction(Identity(network_id, scope.user_id)) as tx:
            # Before the lock: a stranger must not be able to hold up a network.
            if await store_members.select_member(tx, network_id, scope.user_id) is None:
                raise NotFound
            await store_members.lock_members(tx, network_id)
            found = await store_members.select_member(tx, network_id, scope.user_id)
            if found is None:
                raise NotFound
            if found.role is Role.OWNER:
                raise Conflict("the owner cannot leave: a network ends with its owner's account")
        await self._depart(found, scope.user_id)

    # For who manages members

    async def listed(self, scope: Network) -> list[MemberInfo]:
        """Everybody in the network, oldest first; at most `members_max`."""
        await self._check(scope, _MANAGING)
        require(scope, Action.MEMBERS)
        async with self._database.transaction(scope) as tx:
            found = await store_members.select_members(tx, scope.network_id, self._settings.members_max)
        return [await self._info(scope, member) for member in found]

    async def change_role(self, scope: Network, user_id: UUID, role: Role) -> MemberInfo:
        """Give a member another role; at once. Errors: Forbidden, which names the role needed; NotFound."""
        await self._check(scope, _MANAGING)
        require(scope, Action.MEMBERS)
        before = (await self._look(scope, user_id, role)).role
        await self._prepare(scope.network_id, user_id, before, role)
        async with self._database.transaction(Identity(scope.network_id, user_id)) as tx:
            found = await self._changeable(tx, scope, user_id, role)
            done = None
            if found.role is not role:
                epoch = await store_members.update_role(tx, scope.network_id, user_id, role)
                ended = await self._invitations_end(tx, found)
                change = Change(scope.network_id, user_id, scope.user_id, found.role, role, epoch)
                done = await self._changed(tx, change, ended)
        if done is not None:
            await done()
        return await self._info(scope, replace(found, role=role))

    async def remove(self, scope: Network, user_id: UUID) -> None:
        """End a membership; at once. Errors as `change_role`."""
        await self._check(scope, _MANAGING)
        require(scope, Action.MEMBERS)
        before = (await self._look(scope, user_id)).role
        await self._prepare(scope.network_id, user_id, before, None)
        async with self._database.transaction(Identity(scope.network_id, user_id)) as tx:
            done = await self._end(tx, await self._changeable(tx, scope, user_id), scope.user_id)
        await done()

    # For the end of an account

    async def part(self, home: UUID, user_id: UUID) -> None:
        """The user leaves every network but its home, and the home's others leave that. Safe to repeat."""
        async with self._database.transaction(Identity(home, user_id)) as tx:
            found = [
                *await store_members.select_memberships(tx, user_id, self._settings.memberships_max + 1),
                *await store_members.select_members(tx, home, self._settings.members_max),
            ]
        for one in found:
            if (one.network_id, one.user_id) == (home, user_id):
                continue
            await self._depart(one, user_id)

    async def close(self, tx: Tx, home: UUID, user_id: UUID) -> bool:
        """Whether the user and the home network are alone with each other, and stay so while `tx` lasts:
        nobody joins, and nobody is invited any more. Under Identity(home, user)."""
        await store_members.lock_members(tx, home)
        if not await store_members.lock_account(tx, user_id):
            raise Unauthenticated
        if len(await store_members.select_memberships(tx, user_id, 2)) > 1:
            return False
        if len(await store_members.select_members(tx, home, 2)) > 1:
            return False
        await store_members.revoke_invitations(tx, home, self._clock.now())
        return True

    # Inside

    async def joined(self, tx: Tx, member: Member, invited_by: UUID, accepted_key: bytes) -> None:
        """Write a membership that an invitation brought; under its network's lock."""
        await store_members.insert_member(tx, member, invited_by, accepted_key)
        change = Change(member.network_id, member.user_id, invited_by, None, member.role, member.epoch)
        await self._changed(tx, change, [])

    async def _look(self, scope: Network, user_id: UUID, role: Role | None = None) -> Member:
        async with self._database.transaction(Identity(scope.network_id, user_id)) as tx:
            return await self._changeable(tx, scope, user_id, role)

    async def _changeable(self, tx: Tx, scope: Network, user_id: UUID, role: Role | None = None) -> Member:
        """The member, under the lock, if the caller's present role may change it, and give it `role`."""
        await store_members.lock_members(tx, scope.network_id)
        actor = await self._now(tx, scope)
        require(actor, Action.MEMBERS)
        found = await store_members.select_member(tx, scope.network_id, user_id)
        if found is None:
            raise NotFound
        if found.role is Role.OWNER:
            raise Forbidden("the owner's membership does not change: a network ends with its owner's account")
        if user_id == scope.user_id:
            raise Forbidden("one's own membership is changed by others; to end it, leave the network")
        require(actor, manages(found.role))
        if role is not None:
            require(actor, manages(role))
        return found

    async def _now(self, tx: Tx, scope: Network) -> Network:
        """The caller with the role of this moment: the token's may be older."""
        actor = await store_members.select_member(tx, scope.network_id, scope.user_id)
        if actor is None:
            raise Unauthenticated
        return Network(scope.network_id, scope.user_id, actor.role)

    async def _depart(self, member: Member, by: UUID) -> None:
        """End a membership that needs nobody's leave; nothing if it has ended."""
        await self._prepare(member.network_id, member.user_id, member.role, None)
        async with self._database.transaction(Identity(member.network_id, member.user_id)) as tx:
            await store_members.lock_members(tx, member.network_id)
            still = await store_members.select_member(tx, member.network_id, member.user_id)
            if still is None:
                return
            done = await self._end(tx, still, by)
        await done()

    async def _prepare(self, network_id: UUID, user_id: UUID, before: Role, after: Role | None) -> None:
        """Money first: if the change fails behind this, a way to pay is added anew; if this failed behind the
        change, somebody could be charged who sees nothing of it any more."""
        loses = may(before, Action.MONEY) and not (after is not None and may(after, Action.MONEY))
        if loses and self.withdraw is not None:
            await self.withdraw(network_id, user_id)

    async def _end(self, tx: Tx, member: Member, by: UUID) -> Callable[[], Awaitable[None]]:
        """What was the member's in this network ends with the membership, in one transaction."""
        network_id, user_id, now = member.network_id, member.user_id, self._clock.now()
        await store_members.end_sessions(tx, network_id, user_id, now)
        await store_members.revoke_keys(tx, network_id, user_id, now)
        ended = await self._invitations_end(tx, member)
        await store_members.delete_member(tx, network_id, user_id)
        change = Change(network_id, user_id, by, member.role, None, member.epoch + 1)
        return await self._changed(tx, change, ended)

    async def _invitations_end(self, tx: Tx, member: Member) -> list[UUID]:
        """What a member invited to ends with the role it was done in; an admin made anew invites anew."""
        return await store_members.revoke_invitations(
            tx, member.network_id, self._clock.now(), invited_by=member.user_id
        )

    async def _changed(
        self, tx: Tx, change: Change, invitations: Sequence[UUID]
    ) -> Callable[[], Awaitable[None]]:
        """Every change of a permission passes here, in its transaction: the tokens that name what was before
        are refused, on every node; the sockets of whoever may hold none any more close. Answers what is to be
        done after the commit."""
        kind = EventKind.MEMBER_CHANGED
        if change.before is None or change.after is None:
            kind = EventKind.MEMBER_JOINED if change.before is None else EventKind.MEMBER_LEFT
        roles = {
            name: role.value
            for name, role in (("before", change.before), ("after", change.after))
            if role is not None
        }
        event = Event(
            network_id=change.network_id,
            event_id=self._ids.uuid(),
            at=self._clock.now(),
            kind=kind,
            actor=Actor(ActorKind.USER, change.by),
            subject="user",
            subject_id=change.user_id,
            user_id=change.user_id,
            detail=roles,
        )
        await record(tx, event)
        afterwards = [
            then
            for hook in self.on_changed
            if (then := await hook(tx, change.network_id, change.user_id, change.after)) is not None
        ]
        keeps_sockets = change.after not in (None, Role.GUEST)
        revocation = Revocation(change.user_id, network_id=change.network_id, keeps_sockets=keeps_sockets)
        if change.before is not None:
            ended = store.Ended(change.user_id, None, None, change.epoch, change.network_id, keeps_sockets)
            await store.insert_revocation(tx, self._ids.uuid(), ended, self._clock.now())

        async def done() -> None:
            if change.before is not None:
                self._spread([revocation], change.epoch)
            for then in afterwards:
                then()
            for invitation_id in invitations:
                await self._mimir.forget(invitation_id)
            if change.before is not None:
                # Again, for what was added while the change was on its way.
                await self._prepare(change.network_id, change.user_id, change.before, change.after)

        return done

    async def _info(self, scope: Network, member: Member) -> MemberInfo:
        email = display_name = None
        if member.role is not Role.OWNER or member.user_id == scope.user_id:
            try:
                person = await self._mimir.read(member.user_id)
            except NotFound:  # being erased
                pass
            else:
                email, display_name = person.email, person.display_name
        return MemberInfo(member.user_id, member.role, member.created_at, email, display_name)
