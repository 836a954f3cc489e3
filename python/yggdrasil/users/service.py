"""Users: the one object the rest of the server holds. Sign-in, tokens, sessions, the person, API keys,
housekeeping.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.audit import Event, EventKind, actor_of, record
from yggdrasil.db import Database
from yggdrasil.errors import Forbidden, Unauthenticated, Unavailable
from yggdrasil.kernel import Clock, Identity, IdSource, Network, Role
from yggdrasil.keys import Keys
from yggdrasil.mimir.service import Mimir
from yggdrasil.ports import Mailer
from yggdrasil.users import apikeys, store, store_hand_over
from yggdrasil.users.gate import ENDED_SECONDS, Gate, Revocation
from yggdrasil.users.hand_over import HandOvers
from yggdrasil.users.hand_over_home import AtHome
from yggdrasil.users.housekeeping import Housekeeping
from yggdrasil.users.inviting import Inviting
from yggdrasil.users.keyring import KeyInfo, KeyRing
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.mailing import Postman
from yggdrasil.users.members import Members
from yggdrasil.users.sessions import Sessions, Tokens
from yggdrasil.users.settings import UsersSettings
from yggdrasil.users.signin import SignIn, Started, check_name
from yggdrasil.users.store_keys import NO_TERMS, KeyTerms

AUTHORIZATION_CHARS_MAX: Final = 2048
_CLOSE_TRIES_MAX: Final = 3
_log = structlog.get_logger("yggdrasil.users")


@dataclass(frozen=True, slots=True)
class Me:
    """A person, for that person's eyes."""

    user_id: UUID
    network_id: UUID
    role: Role
    email: str = field(repr=False)
    display_name: str | None = field(repr=False)
    created_at: datetime


class Users:
    """`on_revoked` is called, at least once, for everything that ends on this node or another: close its
    sockets.

    `close_network(scope)` is asked before an account is deleted, as the owner of its home network, and may
    raise Conflict to stop it (money in the wallet, for example).
    """

    def __init__(
        self,
        database: Database,
        mimir: Mimir,
        mailer: Mailer,
        clock: Clock,
        ids: IdSource,
        keys: Keys,
        settings: UsersSettings | None = None,
    ) -> None:
        self.settings = settings or UsersSettings()
        self.on_revoked: list[Callable[[Revocation], None]] = []
        self.close_network: Callable[[Network], Awaitable[None]] | None = None
        self._database = database
        self._mimir = mimir
        self._clock = clock
        self._ids = ids
        users_keys = UsersKeys(keys)
        self.postman = Postman(mailer, self.settings.mail_pending_max, self.settings.mail_retry_seconds)
        self._gate = Gate(users_keys, clock, self.settings.key_cache_seconds)
        self._signin = SignIn(database, mimir, self.postman, clock, ids, users_keys, self.settings)
        self._sessions = Sessions(database, clock, ids, users_keys, self.settings)
        self._keyring = KeyRing(database, clock, ids, self._gate, self.settings)
        self.hand_overs = HandOvers(
            database,
            mimir,
            self.postman,
            clock,
            ids,
            users_keys,
            self.settings,
            signin=self._signin,
            sessions=self._sessions,
            spread=self._spread,
        )
        self.at_home = AtHome(
            database,
            mimir,
            clock,
            ids,
            users_keys,
            self.settings,
            sessions=self._sessions,
            spread=self._spread,
        )
        self._heard: set[UUID] = set()
        check = self.at_home.session_at_home
        self.members = Members(database, mimir, clock, ids, self.settings, spread=self._spread, check=check)
        self.inviting = Inviting(
            database,
            mimir,
            self.postman,
            clock,
            ids,
            users_keys,
            self.settings,
            members=self.members,
            check=check,
        )
        self._housekeeping = Housekeeping(
            database,
            mimir,
            clock,
            self.settings,
            gate=self._gate,
            keyring=self._keyring,
            inviting=self.inviting,
            hear=self._hear_revocations,
        )

    async def start(self) -> None:
        """Learn what ended before this process did: call once before the first request."""
        await self._hear_revocations()

    async def close(self) -> None:
        """Let waiting mails go out, and note which keys were used."""
        await self.postman.close()
        with contextlib.suppress(Unavailable):
            await self._keyring.note_uses(due=True)

    # Sign-in

    async def sign_in(
        self,
        *,
        email: str,
        device_key: bytes,
        display_name: str | None = None,
        at_seconds: int | None = None,
        proof: bytes | None = None,
    ) -> Started:
        """Ask for a code; see SignIn.start."""
        return await self._signin.start(
            email=email, device_key=device_key, display_name=display_name, at_seconds=at_seconds, proof=proof
        )

    async def verify(self, *, flow: UUID, code: str, device_key: bytes, proof: bytes) -> Tokens:
        """Prove the code and the key; see SignIn.verify."""
        proven = await self._signin.verify(flow=flow, code=code, device_key=device_key, proof=proof)
        tokens, ended = await self._sessions.open(proven)
        self._spread(ended)
        return tokens

    async def refresh(self, *, refresh_token: str, at_seconds: int, proof: bytes) -> Tokens:
        """The successor of a refresh token; see Sessions.refresh. A stolen one ends its session."""
        tokens, ended = await self._sessions.refresh(
            refresh_token=refresh_token, at_seconds=at_seconds, proof=proof
        )
        self._spread(ended)
        if tokens is None:
            raise Unauthenticated
        return tokens

    async def reserved_token(self, user_id: UUID, network_id: UUID) -> str:
        """An access token of a user whom nobody is: without an address, founded at the first call. For the
        server's own networks alone."""
        return await self._sessions.of_reserved(user_id, network_id)

    async def switch(self, *, refresh_token: str, network_id: UUID, at_seconds: int, proof: bytes) -> Tokens:
        """A session in another network of one's own; see Sessions.switch."""
        tokens, ended = await self._sessions.switch(
            refresh_token=refresh_token, network_id=network_id, at_seconds=at_seconds, proof=proof
        )
        self._spread(ended)
        if tokens is None:
            raise Unauthenticated
        return tokens

    async def logout(self, scope: Network) -> None:
        if scope.session_id is None:
            raise Forbidden("logging out needs a signed-in session; an API key cannot do it")
        self._spread([await self._sessions.end(scope.user_id, scope.session_id, "logout")])

    async def end_device(self, scope: Network, user_id: UUID, device_key: bytes) -> None:
        """A device of the caller's network is removed: what was signed in with its key ends.

        The caller's own session stays, even on that device: logging out is another wish. Forbidden for a
        device away that removes another one.
        """
        if scope.session_id is not None:
            await self.at_home.check_at_home(scope, "removing another device", but_key=device_key)
        self._spread(await self._sessions.end_of_key(scope.network_id, user_id, device_key, scope.session_id))

    async def attach_device(self, scope: Network, device_id: UUID) -> None:
        """The session's tokens name this device from the next refresh on."""
        await self._sessions.attach_device(scope, device_id)

    # Who is calling

    async def authenticate(self, authorization: str | None) -> Network:
        """The scope of `Bearer <access token or API key>`; Unauthenticated, whatever the cause.

        An access token asks no database; an API key does at most every few seconds.
        """
        if authorization is None or len(authorization) > AUTHORIZATION_CHARS_MAX:
            raise Unauthenticated
        kind, _, credential = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise Unauthenticated
        credential = credential.strip(" ")
        if not credential.startswith(apikeys.PREFIX):
            return self._gate.pass_token(credential)
        return await self._keyring.authenticate(credential)

    # The person

    async def me(self, scope: Network) -> Me:
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            account = await store.select_account(tx, scope.user_id)
        if account is None or account.status != "active":
            raise Unauthenticated
        person = await self._mimir.read(scope.user_id)
        return Me(
            account.user_id,
            scope.network_id,
            scope.role,
            person.email,
            person.display_name,
            account.created_at,
        )

    async def rename(self, scope: Network, display_name: str) -> Me:
        """Set the display name."""
        await self._mimir.write_display_name(scope.user_id, check_name(display_name, field="display_name"))
        return await self.me(scope)

    async def delete(self, scope: Network) -> None:
        """Erase the person. Everything ends at once; the vault follows now, or at the next sweep if it is
        away.
        """
        await self.at_home.check_at_home(scope, "deleting the account")
        async with self._database.transaction(Identity(user_id=scope.user_id)) as tx:
            home = await store.home_of(tx, scope.user_id)
        if home is None:
            raise Unauthenticated
        if self.close_network is not None:
            await self.close_network(Network(home, scope.user_id))
        for _ in range(_CLOSE_TRIES_MAX):
            await self.members.part(home, scope.user_id)
            epoch = await self._close_account(home, scope)
            if epoch is not None:
                self._spread([Revocation(scope.user_id)], epoch)
                await self._housekeeping.erase(scope.user_id)
                return
        raise Unavailable("members are joining at this moment; try again", retry_after_seconds=1)

    async def _close_account(self, home: UUID, scope: Network) -> int | None:
        """The last epoch of the account; None, and nothing done, if somebody joined meanwhile."""
        now, user_id = self._clock.now(), scope.user_id
        async with self._database.transaction(Identity(network_id=home, user_id=user_id)) as tx:
            if not await self.members.close(tx, home, user_id):
                return None
            epoch = await store.close_account(tx, user_id, now)
            if epoch is None:
                raise Unauthenticated
            await store_hand_over.delete_of_user(tx, user_id)
            await store.insert_revocation(tx, self._ids.uuid(), store.Ended(user_id, None, None, epoch), now)
            event = Event(
                network_id=home,
                event_id=self._ids.uuid(),
                at=now,
                kind=EventKind.ACCOUNT_CLOSED,
                actor=actor_of(scope),
                subject="user",
                subject_id=user_id,
                user_id=user_id,
            )
            await record(tx, event)
        return epoch

    # API keys

    async def create_key(self, scope: Network, name: str, terms: KeyTerms = NO_TERMS) -> tuple[KeyInfo, str]:
        """A new key of the caller; the text is answered here and nowhere again."""
        await self.at_home.check_at_home(scope, "making an API key")
        return await self._keyring.create(scope, name, terms)

    async def list_keys(
        self, scope: Network, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[KeyInfo], str | None]:
        """The caller's keys that are not revoked, oldest first, and the cursor of the next page."""
        return await self._keyring.page(scope, limit=limit, cursor=cursor)

    async def rotate_key(self, scope: Network, key_id: UUID, overlap_seconds: int) -> tuple[KeyInfo, str]:
        """Another text for a key of the caller; see KeyRing.rotate."""
        await self.at_home.check_at_home(scope, "rotating an API key")
        return await self._keyring.rotate(scope, key_id, overlap_seconds)

    async def revoke_key(self, scope: Network, key_id: UUID) -> None:
        """End a key of the caller at once. NotFound for absent, foreign and revoked ones."""
        await self.at_home.check_at_home(scope, "revoking an API key")
        self._spread([await self._keyring.revoke(scope, key_id)])

    # Housekeeping

    async def sweep(self) -> None:
        """Everything that falls due: call every second or so. See Housekeeping."""
        await self._housekeeping.sweep()

    async def _hear_revocations(self) -> None:
        since = self._clock.now() - timedelta(seconds=ENDED_SECONDS)
        async with self._database.transaction(Identity()) as tx:
            rows = await store.select_revocations(tx, since)
        new = [(revocation_id, ended) for revocation_id, ended in rows if revocation_id not in self._heard]
        self._heard = {revocation_id for revocation_id, _ in rows}
        for _, ended in new:
            revocation = Revocation(
                ended.user_id,
                session_id=ended.session_id,
                key_id=ended.key_id,
                network_id=ended.network_id,
                keeps_sockets=ended.keeps_sockets,
            )
            self._spread([revocation], ended.epoch)

    def _spread(self, ended: list[Revocation], epoch: int | None = None) -> None:
        for revocation in ended:
            self._gate.end(revocation, epoch)
            for callback in self.on_revoked:
                try:
                    callback(revocation)
                except Exception:
                    _log.exception("on_revoked_failed")
