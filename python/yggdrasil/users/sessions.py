"""Sessions: opened by a proven sign-in, kept by refresh, ended once. A session is the family of its refresh
tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import structlog

from yggdrasil.audit import SYSTEM, Event, EventKind, record
from yggdrasil.db import Database, Tx
from yggdrasil.errors import Forbidden, NotFound, Unauthenticated
from yggdrasil.kernel import Clock, Identity, IdSource, Network, Role
from yggdrasil.users import codes, store
from yggdrasil.users.gate import Revocation
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.settings import UsersSettings
from yggdrasil.users.signin import Proven, check_recent
from yggdrasil.users.tokens import COUNTER_MAX, Access, Refresh, Use, issue_access, judge, read_refresh

TWIN_SECONDS: Final = 30
"""A retry this soon gets the very same access token, too."""
Reason = Literal["logout", "theft", "deleted", "limit"]
_log = structlog.get_logger("yggdrasil.users.sessions")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a device holds after sign-in and after each refresh."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_seconds: int
    refresh_expires_in_seconds: int
    user_id: UUID
    network_id: UUID
    session_id: UUID
    role: Role


class Sessions:
    """Opens, refreshes and ends. What ended is told by the return value; the caller spreads it."""

    def __init__(
        self, database: Database, clock: Clock, ids: IdSource, keys: UsersKeys, settings: UsersSettings
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._settings = settings

    async def open(self, proven: Proven) -> tuple[Tokens, list[Revocation]]:
        """A new session in the account's home network; the oldest beyond the limit end."""
        now, account = self._clock.now(), proven.account
        session = self._new(account.user_id, account.home_network_id, proven.device_key, now)
        async with self._database.transaction(Identity(account.home_network_id, account.user_id)) as tx:
            role = await self._role(tx, session)
            await store.know_device(
                tx,
                proven.address_key,
                proven.device_key,
                account.user_id,
                now,
                self._settings.known_devices_max,
            )
            revocations = await self._insert(tx, session)
        return self._tokens(session, role, account.epoch, now), revocations

    async def open_away(
        self,
        account: store.Account,
        network_id: UUID,
        device_key: bytes,
        ends_at: datetime,
        record: Callable[[Tx, store.Session], Awaitable[list[UUID]]],
    ) -> tuple[Tokens, list[Revocation]]:
        """A session that was handed over: it ends at `ends_at`, and its device is not known by it.

        `record` writes what the session is, in the same transaction, and answers sessions that it ended.
        Unauthenticated if the account is no member of the network (any more).
        """
        now = self._clock.now()
        session = store.Session(
            session_id=self._ids.uuid(),
            user_id=account.user_id,
            network_id=network_id,
            device_key=device_key,
            device_id=None,
            counter=1,
            created_at=now,
            refreshed_at=now,
            expires_at=self._expiry(now, now, ends_at),
            revoked_at=None,
            ends_at=ends_at,
        )
        async with self._database.transaction(Identity(network_id, account.user_id)) as tx:
            role = await self._role(tx, session)
            # Beside those of home, none of which ends for it: what is away has a limit of its own.
            most = self._settings.sessions_max + self._settings.hand_overs_max
            ended = await store.insert_session(tx, session, most)
            ended += await record(tx, session)
            revocations = [Revocation(account.user_id, session_id=session_id) for session_id in ended]
            for revocation in revocations:
                await self._publish(tx, revocation)
        return self._tokens(session, role, account.epoch, now), revocations

    async def refresh(
        self, *, refresh_token: str, at_seconds: int, proof: bytes
    ) -> tuple[Tokens | None, list[Revocation]]:
        """The successor; None and the ended session if the token was in the wrong hands.

        Errors: InvalidInput for a clock that is off; Unauthenticated for a token that is not (any more) good.
        """
        said = read_refresh(self._keys, refresh_token)
        if said is None:
            raise Unauthenticated
        check_recent(at_seconds, self._clock, self._settings.proof_skew_seconds)
        message = codes.refresh_message(refresh_token, at_seconds)
        now = self._clock.now()
        async with self._database.transaction(Identity(user_id=said.user_id)) as tx:
            session = await store.lock_session(tx, said.session_id)
            if session is None or session.revoked_at is not None or session.expires_at <= now:
                raise Unauthenticated
            use = judge(said.counter, session.counter)
            if use is not Use.THEFT and codes.proof_holds(session.device_key, proof, message):
                return await self._succeed(tx, session, said.counter, use, now), []
        return None, [await self._end_stolen(session, use, now)]

    async def _succeed(
        self, tx: Tx, session: store.Session, presented: int, use: Use, now: datetime
    ) -> Tokens:
        account = await store.select_account(tx, session.user_id)
        role = await self._role(tx, session)
        if account is None:
            raise Unauthenticated
        if use is Use.ADVANCE:
            session = await self._advance(tx, session, presented, now)
        soon = now - session.refreshed_at < timedelta(seconds=TWIN_SECONDS)
        issued_at = session.refreshed_at if use is Use.RETRY and soon else now
        return self._tokens(session, role, account.epoch, issued_at)

    async def _end_stolen(self, session: store.Session, use: Use, now: datetime) -> Revocation:
        """In a transaction that claims the session's network, not known before, to audit it there."""
        revocation = Revocation(session.user_id, session_id=session.session_id)
        async with self._database.transaction(Identity(session.network_id, session.user_id)) as tx:
            if await store.end_session(tx, session.session_id, "theft", now):
                await self._publish(tx, revocation)
                event = Event(
                    network_id=session.network_id,
                    event_id=self._ids.uuid(),
                    at=now,
                    kind=EventKind.SESSION_STOLEN,
                    actor=SYSTEM,
                    subject="session",
                    subject_id=session.session_id,
                    user_id=session.user_id,
                    detail={"use": use.value},
                )
                await record(tx, event)
        _log.error("refresh_token_theft", session_id=str(session.session_id), use=use.value)
        return revocation

    async def of_reserved(self, user_id: UUID, network_id: UUID) -> str:
        """An access token without a session: nothing refreshes it."""
        now = self._clock.now()
        async with self._database.transaction(Identity(network_id, user_id)) as tx:
            await store.found_account(tx, user_id, network_id, now)
        issued_at = int(now.timestamp())
        access = Access(
            user_id,
            network_id,
            Role.OWNER,
            self._ids.uuid(),
            0,
            None,
            issued_at,
            issued_at + self._settings.access_seconds,
        )
        return issue_access(self._keys.current, access)

    async def switch(
        self, *, refresh_token: str, network_id: UUID, at_seconds: int, proof: bytes
    ) -> tuple[Tokens | None, list[Revocation]]:
        """Another session, of the same device key, in another network of the user's own. The session that
        asks goes on. None and the ended session if the token was in the wrong hands.

        Errors: as `refresh`; NotFound for a network the user is no member of.
        """
        said = read_refresh(self._keys, refresh_token)
        if said is None:
            raise Unauthenticated
        check_recent(at_seconds, self._clock, self._settings.proof_skew_seconds)
        message = codes.switch_message(refresh_token, network_id, at_seconds)
        now = self._clock.now()
        async with self._database.transaction(Identity(network_id, said.user_id)) as tx:
            asking = await store.lock_session(tx, said.session_id)
            if asking is None or asking.revoked_at is not None or asking.expires_at <= now:
                raise Unauthenticated
            use = judge(said.counter, asking.counter)
            if use is not Use.THEFT and codes.proof_holds(asking.device_key, proof, message):
                if asking.ends_at is not None:
                    raise Forbidden(
                        "switching networks needs a device at home; this one's was handed over to it"
                    )
                account = await store.select_account(tx, said.user_id)
                if account is None or account.status != "active":
                    raise Unauthenticated
                role = await store.select_role(tx, network_id, said.user_id)
                if role is None:
                    raise NotFound
                session = self._new(said.user_id, network_id, asking.device_key, now)
                revocations = await self._insert(tx, session)
                return self._tokens(session, role, account.epoch, now), revocations
        return None, [await self._end_stolen(asking, use, now)]

    async def end(self, user_id: UUID, session_id: UUID, reason: Reason) -> Revocation:
        """End one session; safe to repeat."""
        revocation = Revocation(user_id, session_id=session_id)
        async with self._database.transaction(Identity(user_id=user_id)) as tx:
            if await store.end_session(tx, session_id, reason, self._clock.now()):
                await self._publish(tx, revocation)
        return revocation

    async def end_of_key(
        self, network_id: UUID, user_id: UUID, device_key: bytes, but: UUID | None
    ) -> list[Revocation]:
        """End what was signed in with a device key, all but the session `but`; safe to repeat."""
        async with self._database.transaction(Identity(network_id, user_id)) as tx:
            ended = await store.end_sessions_of_key(
                tx, network_id, user_id, device_key, but, self._clock.now()
            )
            revocations = [Revocation(user_id, session_id=session_id) for session_id in ended]
            for revocation in revocations:
                await self._publish(tx, revocation)
        return revocations

    async def attach_device(self, scope: Network, device_id: UUID) -> None:
        """Tokens of the caller's session name this device from the next refresh on."""
        if scope.session_id is None:
            return
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            await store.set_session_device(tx, scope.session_id, device_id)

    def _new(self, user_id: UUID, network_id: UUID, device_key: bytes, now: datetime) -> store.Session:
        return store.Session(
            session_id=self._ids.uuid(),
            user_id=user_id,
            network_id=network_id,
            device_key=device_key,
            device_id=None,
            counter=1,
            created_at=now,
            refreshed_at=now,
            expires_at=self._expiry(now, now),
            revoked_at=None,
        )

    async def _insert(self, tx: Tx, session: store.Session) -> list[Revocation]:
        """Open the session; the oldest beyond the limit end."""
        ended = await store.insert_session(tx, session, self._settings.sessions_max)
        revocations = [Revocation(session.user_id, session_id=session_id) for session_id in ended]
        for revocation in revocations:
            await self._publish(tx, revocation)
        return revocations

    async def _advance(self, tx: Tx, session: store.Session, presented: int, now: datetime) -> store.Session:
        counter = presented + 1
        if counter > COUNTER_MAX:
            raise Unauthenticated
        expires_at = self._expiry(session.created_at, now, session.ends_at)
        await store.advance_session(tx, session.session_id, counter, now, expires_at)
        return replace(session, counter=counter, refreshed_at=now, expires_at=expires_at)

    async def _role(self, tx: Tx, session: store.Session) -> tuple[Role, int]:
        role = await store.select_role(tx, session.network_id, session.user_id)
        if role is None:
            raise Unauthenticated
        return role

    async def _publish(self, tx: Tx, revocation: Revocation) -> None:
        ended = store.Ended(revocation.user_id, revocation.session_id, None, None)
        await store.insert_revocation(tx, self._ids.uuid(), ended, self._clock.now())

    def _expiry(self, created_at: datetime, now: datetime, ends_at: datetime | None = None) -> datetime:
        return min(
            now + timedelta(seconds=self._settings.session_idle_seconds),
            created_at + timedelta(seconds=self._settings.session_seconds_max),
            *(() if ends_at is None else (ends_at,)),
        )

    def _tokens(
        self, session: store.Session, standing: tuple[Role, int], epoch: int, issued_at: datetime
    ) -> Tokens:
        """`standing`: the role and the epoch of the membership."""
        role, member_epoch = standing
        issued_at_seconds = int(issued_at.timestamp())
        expires_at_seconds = issued_at_seconds + self._settings.access_seconds
        now = self._clock.now()
        secret = self._keys.current
        access = Access(
            user_id=session.user_id,
            network_id=session.network_id,
            role=role,
            session_id=session.session_id,
            epoch=epoch,
            device_id=session.device_id,
            issued_at_seconds=issued_at_seconds,
            expires_at_seconds=expires_at_seconds,
            member_epoch=member_epoch,
        )
        return Tokens(
            access_token=issue_access(secret, access),
            refresh_token=Refresh(session.user_id, session.session_id, session.counter).text(secret),
            expires_in_seconds=max(0, expires_at_seconds - int(now.timestamp())),
            refresh_expires_in_seconds=max(0, int((session.expires_at - now).total_seconds())),
            user_id=session.user_id,
            network_id=session.network_id,
            session_id=session.session_id,
            role=role,
        )
